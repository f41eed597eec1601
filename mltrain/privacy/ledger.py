"""The privacy ledger: a file that counts every private step before it is taken.

What was spent stays spent: a step that a killed run lost was computed on private data all the same, and may have been
seen in a log or on a screen. So the file, not the checkpoint that a run continues from, says how many there were.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mltrain.core.background import BackgroundWork
from mltrain.core.errors import CheckpointError
from mltrain.core.files import content_digest, fsync_path, write_text

__all__ = ["Ledger"]

_FORMAT = 1
_FULL = "Free some space or mend the permissions, then continue with --resume; no step was taken that is not counted."
_RESTORE = "Put the file of the run back, or start a new run: what this one has spent is not known."


class Ledger:
    """Counts steps, each on the disk before it changes a weight. Only who holds the run's lock may open it.

    Args:
        path: the file; made if it is missing.
        mechanism: what each step does (noise, clipping, sampling, data), as JSON values; that of a file that is there
            must be the same.
        segment: what is to be known of this part of the run, as JSON values.

    Attributes:
        mechanism: what each step of this run does.
        steps: how many were begun since the run began, lost ones included.
        segments: what was said of each part of the run, this one included.

    Raises:
        CheckpointError: the file is damaged, or of another run, or cannot be written.
    """

    def __init__(self, path: Path, mechanism: Mapping[str, Any], segment: Mapping[str, Any] | None = None) -> None:
        self._path = path
        segment = segment or {}
        try:
            if not path.exists():
                write_text(path, _line({"ledger": _FORMAT, "digest": _digest(mechanism), **mechanism}))
                fsync_path(path.parent)
            self.mechanism, self.steps, self.segments, whole = _read(path)
            if self.mechanism != dict(mechanism):
                raise CheckpointError("is of another run", where=str(path), fix=_RESTORE)
            self._descriptor = os.open(path, os.O_RDWR)
            self._length = whole
            os.lseek(self._descriptor, whole, os.SEEK_SET)
            self.segments.append(dict(segment))
            # Over a torn line, which it counts; whatever is left of that goes when the disk has this one.
            self._write({"segment": len(self.segments), "steps": self.steps, **self.segments[-1]})
            self._flush()
            os.ftruncate(self._descriptor, self._length)
        except OSError as error:
            raise self._unwritable(error) from error
        self._flushing = BackgroundWork("ledger")

    @staticmethod
    def mechanism_of(path: Path) -> dict[str, Any]:
        """Return what each step of a run does, from its file, which stays as it is.

        Raises:
            CheckpointError: the file is damaged, or cannot be read.
        """
        try:
            return _read(path)[0]
        except OSError as error:
            raise CheckpointError(f"cannot be read ({error.strerror})", where=str(path), fix=_RESTORE) from error

    def begin_step(self, position: int) -> None:
        """Count a step; the disk gets it while the step is computed.

        Args:
            position: the run's own number of the step, from 0; it comes again where a lost step is taken anew.

        Raises:
            CheckpointError: it could not be written.
        """
        self.settle()
        self._append({"step": self.steps + 1, "position": position})
        self.steps += 1
        self._flushing.start(self._flush)

    def settle(self) -> None:
        """Return when the disk has all that was counted; only then may the step be taken.

        Raises:
            CheckpointError: it could not be flushed.
        """
        try:
            self._flushing.settle(wait=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def state(self) -> dict[str, Any]:
        """Return the ledger as JSON values, for a checkpoint."""
        return {"mechanism": self.mechanism, "steps": self.steps}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise CheckpointError where a checkpoint knows of more steps than this file, or of other ones."""
        if state["mechanism"] != self.mechanism or state["steps"] > self.steps:
            raise CheckpointError(
                f"counts {self.steps} steps, and the checkpoint {state['steps']}"
                if state["steps"] > self.steps
                else "is of another run than the checkpoint",
                where=str(self._path),
                fix=_RESTORE,
            )

    def close(self) -> None:
        """Close the file."""
        self._flushing.close()
        os.close(self._descriptor)

    def _append(self, record: Mapping[str, Any]) -> None:
        try:
            self._write(record)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
                os.lseek(self._descriptor, self._length, os.SEEK_SET)
            raise self._unwritable(error) from error

    def _write(self, record: Mapping[str, Any]) -> None:
        line, written = _line(record).encode(), 0
        while written < len(line):
            written += os.write(self._descriptor, line[written:])
        self._length += len(line)

    def _flush(self) -> None:
        os.fdatasync(self._descriptor)

    def _unwritable(self, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"the privacy ledger cannot be written ({error.strerror or error})", where=str(self._path), fix=_FULL
        )


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


def _digest(mechanism: Mapping[str, Any]) -> str:
    return content_digest(json.dumps(mechanism, sort_keys=True).encode())


def _read(path: Path) -> tuple[dict[str, Any], int, list[dict[str, Any]], int]:
    """Return the mechanism, the steps, what is said of each segment, and the bytes of whole lines.

    A torn last line is a step that was about to be taken. Whether it was nobody knows: it counts.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    steps = 0
    segments: list[dict[str, Any]] = []
    try:
        first, *lines = [json.loads(line) for line in content[:whole].splitlines()]
        if first.pop("ledger") != _FORMAT or first.pop("digest") != _digest(first):
            raise ValueError
        for line in lines:
            if "segment" in line:
                if line.pop("segment") != len(segments) + 1:
                    raise ValueError
                # Torn lines of earlier segments are counted in their successors' first lines.
                if not steps <= line["steps"] <= steps + 1:
                    raise ValueError
                steps = line.pop("steps")
                segments.append(line)
            elif line["step"] == steps + 1:
                steps += 1
            else:
                raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise CheckpointError("is damaged", where=str(path), fix=_RESTORE) from None
    return first, steps + (whole < len(content)), segments, whole
