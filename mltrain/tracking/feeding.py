"""From a run folder to a tracker's store: what is new while the run goes on, and the end of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mltrain.core.errors import one_line
from mltrain.core.files import read_json
from mltrain.core.logging import log
from mltrain.core.masking import masked
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.base import TrackingError
from mltrain.tracking.sink import Sink, State, open_sink

__all__ = ["feed"]

_INTERVAL_S = 1.0
_MAX_PAUSE_S = 30.0
_OTHER_TIMEOUT_S = 600.0
# A store that never took anything is more likely wrong than busy.
_NEVER_REACHED_PATIENCE_S = 2.0


def feed(
    name: str,
    folder: RunFolder,
    settings: Mapping[str, Any],
    *,
    wait: Callable[[float], State],
    report: Callable[[str], None] | None = None,
    other_timeout_s: float = _OTHER_TIMEOUT_S,
) -> int:
    """Bring a store to what the run folder says, until the training process has ended; return how many points it took.

    Args:
        name: the tracker.
        folder: the run folder; it may be a finished run's, and may be fed any number of times.
        settings: the tracker's; of `finish_timeout_s` half is given to a failing store after the end.
        wait: called with seconds: waits at most so long and returns the state of the training process.
        report: told what keeps the store from taking the run when that begins, and "" when it has passed.
        other_timeout_s: how long another process that feeds the store from this folder is waited for.

    Raises:
        TrackingError: the store did not take everything.
    """
    folder.tracking.mkdir(exist_ok=True)
    try:
        # The follower of an earlier segment may still be at work; two would send everything twice.
        with FileLock(folder.tracking / f"{name}.lock", timeout=other_timeout_s):
            feeder = _Feeder(name, folder, settings, report)
            state = feeder.follow(wait)
            feeder.finish(state, patience_s=float(settings["finish_timeout_s"]) / 2)
            return feeder.sent
    except Timeout:
        raise TrackingError("another process is sending this run", fix="Try again when it is done.") from None


class _Feeder:
    def __init__(
        self, name: str, folder: RunFolder, settings: Mapping[str, Any], report: Callable[[str], None] | None
    ) -> None:
        self._name, self._folder, self._settings, self._report = name, folder, settings, report
        self._sink: Sink | None = None
        self._tail = _Tail(folder.metrics)
        self._unsent: list[Any] = []
        self._failing = False
        self.sent = 0

    def follow(self, wait: Callable[[float], State]) -> State:
        """Send what is new about once a second; a failing store is tried again, ever more rarely."""
        pause, trouble = 0.0, ""
        while (state := wait(pause)) == "running":
            try:
                self._send_new()
                if trouble:
                    self._say("")
                pause, trouble = _INTERVAL_S, ""
            except Exception as error:
                pause = min(max(2 * pause, _INTERVAL_S), _MAX_PAUSE_S)
                if type(error).__name__ != trouble:  # said once, not every time
                    log.warning("The store does not take the run, trying again: %s", _described(error))
                    self._say(_described(error))
                trouble = type(error).__name__
        self._failing = bool(trouble)
        return state

    def finish(self, state: State, *, patience_s: float) -> None:
        """Send the rest and the end. Each can be sent twice, so a failure repeats them all."""
        deadline, pause = time.monotonic() + (0.0 if self._failing else patience_s), _INTERVAL_S
        while True:
            try:
                sink = self._send_new()
                status, ended_at = self._end(state)
                sink.end(self._folder, status, ended_at=ended_at)
                log.info("%s is complete", sink.name)
                return
            except Exception as error:
                if self._sink is None:
                    deadline = min(deadline, time.monotonic() + _NEVER_REACHED_PATIENCE_S)
                if time.monotonic() + pause > deadline:
                    raise TrackingError(_described(error)) from error
            time.sleep(pause)
            pause *= 2

    def _send_new(self) -> Sink:
        if self._sink is None:
            self._sink = open_sink(self._name, self._folder, self._settings)
            log.info("%s is open", self._sink.name)
        sink = self._sink
        if self._tail.was_cut():
            self._unsent.clear()
            sink.start_over()
        self._send(sink)
        for record in self._tail.records():
            self._unsent += sink.points(record)
            if len(self._unsent) >= sink.max_points:
                self._send(sink)
        self._send(sink)
        return sink

    def _send(self, sink: Sink) -> None:
        while self._unsent:
            part = self._unsent[: sink.max_points]
            sink.send(part)
            del self._unsent[: len(part)]
            self.sent += len(part)

    def _say(self, trouble: str) -> None:
        if self._report is not None:
            self._report(trouble)

    def _end(self, state: State) -> tuple[str, float]:
        """Return the run's status and when it ended, in seconds since 1970."""
        folder = self._folder
        if state == "ended":
            return str(read_json(folder.summary)["status"]), folder.summary.stat().st_mtime
        # This may be said long after the end: the last sign of life counts.
        signs = [folder.config, folder.metadata, folder.metrics, *folder.logs.iterdir()]
        return state, max(path.stat().st_mtime for path in signs if path.exists())


class _Tail:
    """The records of a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def was_cut(self) -> bool:
        """Return whether the file became shorter than what was read of it; it is then read from the start again."""
        cut = self._offset > 0 and (not self._path.exists() or self._path.stat().st_size < self._offset)
        if cut:
            self._offset = 0
        return cut

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the whole lines that are new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)


def _described(error: BaseException) -> str:
    """Return an error on one line; of a chain of them the refusal by the system or the network that began it."""
    innermost, found = error, error
    while (inner := innermost.__cause__ or innermost.__context__) is not None:
        innermost = inner
        found = innermost if isinstance(innermost, OSError) else found
    return masked(f"{type(found).__name__}: {one_line(found)}")[:400]
