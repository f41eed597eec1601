"""Keeping a library of Hugging Face from its own warnings and progress bars for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(library_logging: Any) -> Iterator[None]:
    """Show errors alone, no progress bars; afterwards what was shown before.

    Args:
        library_logging: the library's `logging` module: `transformers.utils.logging`, `evaluate.logging`.
    """
    level, bars = library_logging.get_verbosity(), library_logging.is_progress_bar_enabled()
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)
        if bars:
            library_logging.enable_progress_bar()
