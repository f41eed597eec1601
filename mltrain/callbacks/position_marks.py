"""Marks where a run stands in a small file: a program beside it can read there what a run did when it was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mltrain.callbacks.base import Callback, Loop, register_callback

__all__ = ["PositionMarks", "read_marks"]

_WIDTH = 64


@register_callback("position_marks")
class PositionMarks(Callback):
    """Writes the phase and the step at every event: one small write to a file that stays open.

    Args:
        file: where; overwritten.
    """

    def __init__(self, file: str) -> None:
        self._path, self._descriptor = Path(file), -1

    def on_fit_start(self, loop: Loop) -> None:
        """Begin."""
        if loop.is_main:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._mark("training", loop)

    def on_step_end(self, loop: Loop) -> None:
        """Count a step."""
        self._mark("training", loop)

    def on_validation_start(self, loop: Loop) -> None:
        """Enter validation."""
        self._mark("validating", loop)

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Leave validation."""
        self._mark("training", loop)

    def on_fit_end(self, loop: Loop) -> None:
        """Enter what follows training: the final evaluation and the reports."""
        self._mark("evaluating", loop)

    def _mark(self, phase: str, loop: Loop) -> None:
        if self._descriptor >= 0:
            text = json.dumps({"phase": phase, "step": loop.position.step})
            # Of one length and in one write: a reader sees the old mark or the new one.
            os.pwrite(self._descriptor, text.ljust(_WIDTH).encode(), 0)


def read_marks(path: Path) -> tuple[str, int]:
    """Return the phase ("training", "validating", "evaluating") and the step; before the first mark ("starting", 0)."""
    try:
        marks = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return "starting", 0
    return str(marks["phase"]), int(marks["step"])
