"""Writing a file of an example data set: one that holds something else is never replaced."""

from __future__ import annotations

from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.core.files import write_text

__all__ = ["write_new_text"]


def write_new_text(path: Path, text: str) -> None:
    """Write a text file and its folder; nothing where it is there already.

    Raises:
        DataError: the file holds something else.
    """
    if path.exists():
        if path.read_bytes() != text.encode():
            raise DataError(
                "is there already and holds something else", where=str(path), fix="Choose another --output."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
