"""A run seen from outside while it lasts: its phase, its step, its checkpoints; and how long each part of it took."""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass, field
from pathlib import Path

from mltrain.callbacks.position_marks import read_marks
from mltrain.checkpoints.store import CheckpointStore
from mltrain.core.files import read_record
from mltrain.core.run_folder import RunFolder
from mltrain.workflows.child_runs import ChildRun

__all__ = ["LOOK_EVERY_S", "RunWatch", "Sight", "Timeline", "observe"]

LOOK_EVERY_S = 0.001
_CHECKPOINT = "step-"
_STAGING = ".tmp-"
_TRASH = ".trash-"
_FINISHED = ("completed", "early_stopped")


@dataclass(frozen=True)
class Sight:
    """What is seen at one moment.

    Attributes:
        phase: "starting", "training", "validating" or "evaluating".
        step: optimizer steps done; 0 while starting.
        staging: a checkpoint is being written.
        committed: a checkpoint has come since the last look.
    """

    phase: str
    step: int
    staging: bool
    committed: bool


class RunWatch:
    """Looks at one run folder.

    Args:
        folder: the run folder; need not exist yet.
        marks: the file of the run's callback `position_marks`.
    """

    def __init__(self, folder: RunFolder, marks: Path) -> None:
        self.folder, self._marks = folder, marks
        self._store = CheckpointStore(folder.checkpoints)
        self._old: frozenset[str] = frozenset()
        self._last: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Forget what an earlier process has left: call this before the run is started or continued."""
        self._marks.unlink(missing_ok=True)
        self._old = self._last = self._names()

    def look(self) -> Sight:
        """Return what there is to see."""
        phase, step = read_marks(self._marks)
        names = self._names()
        staging = any(name.startswith(_STAGING) for name in names - self._old)
        committed = any(name.startswith(_CHECKPOINT) for name in names - self._last)
        self._last = names
        return Sight(phase, step, staging, committed)

    def doing_at_death(self) -> str:
        """Return what a run did that has just been killed: a save leaves traces, the rest is told by the marks."""
        left = self._names() - self._old
        newest = next(iter(self._store.list()), None)
        if any(name.startswith((_STAGING, _TRASH)) for name in left) or self._store.pointed("last") != newest:
            return "saving"
        phase, _ = read_marks(self._marks)
        return {"training": "step"}.get(phase, phase)

    def newest(self) -> str | None:
        """Return the name of the newest checkpoint."""
        return next((path.name for path in self._store.list()), None)

    def has_ended(self) -> bool:
        """Return whether the run came to its end, by its own summary."""
        return read_record(self.folder.summary).get("status") in _FINISHED

    def _names(self) -> frozenset[str]:
        try:
            return frozenset(path.name for path in self.folder.checkpoints.iterdir())
        except OSError:
            return frozenset()


@dataclass
class Timeline:
    """When an undisturbed run did what, in seconds.

    Attributes:
        start_s: from the command to the beginning of training.
        train_s: from there to the end of training.
        total_s: from the beginning of training to the end of the run.
        saves, validations: how long each lasted.
        reached: (seconds since training began, step), in order.
    """

    start_s: float = 0.0
    train_s: float = 0.0
    total_s: float = 0.0
    saves: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    reached: list[tuple[float, int]] = field(default_factory=list)
    _since: dict[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.reached[-1][1] if self.reached else 0

    def left(self, step: int) -> float:
        """Return the seconds of training, more than 0, that were left when a step was done."""
        index = bisect.bisect_left(self.reached, step, key=lambda entry: entry[1])
        passed = self.reached[index][0] if index < len(self.reached) else self.train_s
        return max(self.train_s - passed, LOOK_EVERY_S)

    def note(self, sight: Sight, seconds: float) -> None:
        """Enter a sight of the run, `seconds` after its training began."""
        self.total_s = seconds
        if sight.phase != "evaluating":
            self.train_s = seconds
        if sight.step > self.steps or not self.reached:
            self.reached.append((seconds, sight.step))
        self._note_span("save", sight.staging, self.saves, seconds)
        self._note_span("validation", sight.phase == "validating", self.validations, seconds)

    def _note_span(self, name: str, is_on: bool, spans: list[float], seconds: float) -> None:
        if is_on:
            self._since.setdefault(name, seconds)
        elif name in self._since:
            spans.append(seconds - self._since.pop(name))


def observe(run: ChildRun, watch: RunWatch) -> Timeline:
    """Watch a run from its start to its end, and return when it did what."""
    timeline, launched = Timeline(), time.monotonic()
    began: float | None = None
    while run.poll() is None:
        sight, now = watch.look(), time.monotonic()
        if began is None and sight.phase != "starting":
            began, timeline.start_s = now, now - launched
        if began is not None and not (sight.phase == "evaluating" and watch.has_ended()):
            timeline.note(sight, now - began)
        time.sleep(LOOK_EVERY_S)
    return timeline
