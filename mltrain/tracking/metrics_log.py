"""`metrics.jsonl`: every logged value, one JSON object a line, and the way back to where a checkpoint stood."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mltrain.tracking.non_private import NON_PRIVATE, matcher

__all__ = ["NOT_VALUES", "MetricsLog", "is_measured", "read_metrics"]

NOT_VALUES = ("step", "epoch", "time", NON_PRIVATE)
"""What a record holds beside its values; the last only where a trainer claims privacy, and some value has none."""

_MEASURED = ("time", "train/samples_per_s", "train/data_wait_share")


class MetricsLog:
    """An append-only file of records. A crash leaves at most one torn last line, a full disk none.

    Args:
        path: the file; made if missing.
        length: bytes to keep; what lies behind is cut off. None keeps all whole lines.
        non_private: patterns of the names that each record lists as not private, where it holds them.
    """

    def __init__(self, path: Path, *, length: int | None = None, non_private: Sequence[str] = ()) -> None:
        self._path, self._failed = path, False
        self._is_non_private = matcher(non_private)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self._descriptor, _whole_lines(path) if length is None else min(length, _whole_lines(path)))
        self._length = os.lseek(self._descriptor, 0, os.SEEK_END)

    @property
    def length(self) -> int:
        """Bytes written so far. A checkpoint keeps it: on resume the file is cut back to it."""
        return self._length

    def write(self, *, step: int, epoch: int, values: Mapping[str, float]) -> dict[str, Any]:
        """Append one record and return it. JSON has no NaN or infinity: such a value is written as null.

        Raises:
            OSError: it could not be written, and nothing of it was.
        """
        record: dict[str, Any] = {"step": step, "epoch": epoch, "time": round(time.time(), 3)}
        record |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        if listed := [name for name in values if self._is_non_private(name)]:
            record[NON_PRIVATE] = listed
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        self._append(line)
        return record

    def flush(self) -> None:
        """Force what was written to the disk.

        Raises:
            OSError: with the file's name.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._named(error) from error

    def close(self) -> None:
        """Flush and close; after an error that was told there is nothing more to tell."""
        try:
            if not self._failed:
                self.flush()
        finally:
            os.close(self._descriptor)

    def _append(self, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):  # where a disk fills up, a part may be written before the error comes
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            self._failed = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
                os.lseek(self._descriptor, self._length, os.SEEK_SET)
            raise self._named(error) from error
        self._length += len(line)

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, error.strerror, str(self._path))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the whole records of a metrics file, oldest first; a torn last line is left out."""
    content = path.read_bytes() if path.exists() else b""
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return [json.loads(line) for line in lines]


def is_measured(name: str) -> bool:
    """Return whether a value measures the machine, or counts steps that a kill lost.

    It differs between two runs that are otherwise the same.
    """
    return name in _MEASURED or name.startswith(("system/", "privacy/"))


def _whole_lines(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
