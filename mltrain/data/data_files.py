"""The files that a run learns from, kept with the run, so that a later change of the data can be told file by file.

One line a file, JSON, compressed: [split, first 8 hexadecimal digits of the content's digest, path, class], without the
class where the path says it. A million files take 16 MB. The digest of the whole data decides whether it has changed;
this list only says where.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["DataFile", "read_data_files", "write_data_files"]

_DIGITS = 8
_LINES_A_WRITE = 10_000
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class DataFile(NamedTuple):
    """A file of a data set: the split it is in, the digest of its content, its path below the data folder, its class.

    The class is empty where the path says it.
    """

    split: str
    digest: str
    path: str
    label: str = ""


def write_data_files(path: Path, files: Iterable[DataFile]) -> None:
    """Write the list, and nothing where it is empty. Equal lists give equal bytes."""
    remaining = iter(files)
    first = next(remaining, None)
    if first is None:
        return
    staging = path.with_name(f".{path.name}.tmp")
    with staging.open("wb") as stream, gzip.GzipFile("", "wb", 1, stream, mtime=0) as lines:
        texts = map(_line, itertools.chain([first], remaining))
        while part := "".join(itertools.islice(texts, _LINES_A_WRITE)):
            lines.write(part.encode())
    staging.replace(path)


def read_data_files(path: Path) -> list[DataFile] | None:
    """Return the list with its short digests, or None where there is none that can be read."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return [DataFile(*map(str, json.loads(line))) for line in lines]
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        return None


def _line(file: DataFile) -> str:
    split, digest, path, label = file
    return _ENCODER.encode([split, digest[:_DIGITS], path, label] if label else [split, digest[:_DIGITS], path]) + "\n"
