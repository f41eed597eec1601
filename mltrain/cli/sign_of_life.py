"""A line while a command loads its libraries, which on a slow machine takes longer than people wait for a sign."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Iterator

from mltrain.core.logging import log

__all__ = ["sign_of_life"]

# A quick machine, and a mistake that is found at once, need no such line.
_AFTER_S = 2.0


@contextlib.contextmanager
def sign_of_life(arguments: argparse.Namespace, processes: int) -> Iterator[None]:
    """Say what begins, if the block takes longer than two seconds.

    Args:
        arguments: of `mltrain train`.
        processes: that are started.
    """
    starts = {None: "Starting with", "auto": "Starting, or continuing, with"}.get(arguments.resume)
    what = f"Continuing {arguments.resume}" if starts is None else f"{starts} {arguments.config}"
    where = f" in {processes} processes" if processes > 1 else ""
    timer = threading.Timer(_AFTER_S, log.info, ("%s: loading libraries%s.", what, where))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
