"""A run that is killed again and again, and continued by the same command each time, until it comes to its end."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mltrain.core.errors import RunFolderError
from mltrain.core.files import read_record
from mltrain.workflows.child_runs import ChildRun
from mltrain.workflows.kill_points import KillPoint
from mltrain.workflows.run_watch import LOOK_EVERY_S, RunWatch, Timeline

__all__ = ["Kill", "KilledRun"]

_STEP = re.compile(r"step-([0-9]+)")
_LOCK_S = 30.0


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        aim: what it was aimed at; see `KillPoint`.
        doing: what the run did: "starting", "step", "saving", "validating" or "evaluating".
        seconds: since training began, or, where the run was starting, since the command.
        step: optimizer steps done.
        newest: the newest checkpoint then; None: there was none.
        resumed_from: the checkpoint that the run continued from; None: from its beginning.
    """

    aim: str
    doing: str
    seconds: float
    step: int
    newest: str | None
    resumed_from: str | None = None

    @property
    def repeated(self) -> int:
        """Steps that were done twice."""
        found = _STEP.match(self.resumed_from or "")
        return max(0, self.step - (int(found[1]) if found else 0))


class KilledRun:
    """One run and the processes that it takes.

    Args:
        start: starts the run, or continues it.
        watch: looks at its folder.
        timeline: of the undisturbed run.
    """

    def __init__(self, start: Callable[[], ChildRun], watch: RunWatch, timeline: Timeline) -> None:
        self._start, self._watch, self._timeline = start, watch, timeline
        self._kills: list[Kill] = []
        self._segments = 0
        self._known = 0

    @property
    def kills(self) -> Sequence[Kill]:
        """The kills so far, in order."""
        return self._kills

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._watch.folder.path

    def continue_until(self, point: KillPoint) -> int | None:
        """Start or continue the run, and kill it at a point; returns None, or the exit code where it ended before."""
        with self._process() as (run, started):
            kill = self._kill_at(run, point, started)
            code = run.kill()
        if kill is None:
            return code
        self._kills.append(kill)
        return None

    def finish(self) -> int:
        """Continue the run to its end, and return its exit code."""
        with self._process() as (run, _):
            while (code := run.poll()) is None:
                time.sleep(LOOK_EVERY_S)
        return code

    @contextlib.contextmanager
    def _process(self) -> Iterator[tuple[ChildRun, float]]:
        """Give the run, started or continued, and the time of that; leave nothing of it behind."""
        self._watch.begin()
        self._wait_for_lock()
        run, started = self._start(), time.monotonic()
        try:
            yield run, started
        finally:
            run.kill()
            self._note_continuation()

    def _kill_at(self, run: ChildRun, point: KillPoint, started: float) -> Kill | None:
        """Wait for the point and kill the run; returns None where the run has ended before."""
        since, left = started, math.inf
        while run.poll() is None:
            sight, now = self._watch.look(), time.monotonic()
            if left == math.inf and sight.phase != "starting":
                since, left = now, self._timeline.left(sight.step)
            if point.is_seen(sight, (now - since) / left):
                time.sleep(point.delay)
                return self._kill(run, point, since)
            time.sleep(LOOK_EVERY_S)
        return None

    def _kill(self, run: ChildRun, point: KillPoint, since: float) -> Kill | None:
        seconds = time.monotonic() - since
        if run.kill() >= 0 or self._watch.has_ended():
            return None
        return Kill(point.aim, self._watch.doing_at_death(), seconds, self._watch.look().step, self._watch.newest())

    def _note_continuation(self) -> None:
        """Enter, for the kills before, where the run says that it continued; a start that was killed says nothing."""
        segments = read_record(self._watch.folder.metadata).get("segments", [])
        if len(segments) > self._segments:
            self._segments = len(segments)
            resumed_from = segments[-1].get("resumed_from")
            waiting = [replace(kill, resumed_from=resumed_from) for kill in self._kills[self._known :]]
            self._kills[self._known :] = waiting
            self._known = len(self._kills)

    def _wait_for_lock(self) -> None:
        """Wait until the killed processes are gone and the folder's lock with them."""
        end = time.monotonic() + _LOCK_S
        while self.folder.is_dir():
            try:
                self._watch.folder.lock().release()
                return
            except RunFolderError:
                if time.monotonic() > end:
                    raise
                time.sleep(LOOK_EVERY_S)
