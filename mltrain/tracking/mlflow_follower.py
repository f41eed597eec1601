"""The process that feeds MLflow: follows a run folder until its training process ends, and says how it ended.

    python -m mltrain.tracking.mlflow_follower RUN_FOLDER

The tracker starts it with a pipe: one line of settings (JSON), then nothing until `ended` (`summary.json` says how) or
`failed`. A pipe that closes without a word, or a training process that is gone, means that it died.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from mltrain.core.errors import MltrainError
from mltrain.core.files import read_json
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.mlflow_address import masked
from mltrain.tracking.run_facts import read_facts

if TYPE_CHECKING:
    from mlflow.entities import Metric

    from mltrain.tracking.mlflow_run import TrackedRun

__all__ = ["State", "TrackingError", "synchronize"]

State = Literal["running", "ended", "failed", "died"]

_INTERVAL_S = 1.0
_MAX_PAUSE_S = 30.0
_OTHER_FOLLOWER_TIMEOUT_S = 600.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own retries would hide for minutes that the training process has ended.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class TrackingError(MltrainError):
    """MLflow could not be given everything."""


def synchronize(folder: RunFolder, settings: Mapping[str, Any], *, wait: Callable[[float], State]) -> None:
    """Bring the MLflow run of this folder to what the folder says, until the training process has ended.

    Args:
        folder: the run folder; it may be a finished run's, and may be synchronized any number of times.
        settings: `tracking_uri` (absolute), `experiment` (None: the data set's name) and `finish_timeout_s`, half
            of which is given to a failing store after the end.
        wait: called with seconds: waits at most so long and returns the state of the training process.

    Raises:
        TrackingError: the store did not take everything.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    folder.tracking.mkdir(exist_ok=True)
    # The follower of an earlier segment may still be at work; two would send everything twice.
    with FileLock(folder.tracking / "mlflow.lock", timeout=_OTHER_FOLLOWER_TIMEOUT_S):
        follower = _Follower(folder, settings)
        state = follower.follow(wait)
        follower.finish(state, patience_s=float(settings["finish_timeout_s"]) / 2)


class _Follower:
    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._uri = str(settings["tracking_uri"])
        self._run: TrackedRun | None = None
        self._tail = _Tail(folder.metrics)
        self._unsent: list[Metric] = []

    def follow(self, wait: Callable[[float], State]) -> State:
        """Send what is new about once a second; a failing store is tried again, ever more rarely."""
        pause, trouble = 0.0, ""
        while (state := wait(pause)) == "running":
            try:
                self._send_new()
                pause, trouble = _INTERVAL_S, ""
            except Exception as error:
                pause = min(max(2 * pause, _INTERVAL_S), _MAX_PAUSE_S)
                if type(error).__name__ != trouble:  # said once, not every time
                    log.warning("%s does not take the run, trying again: %s", masked(self._uri), _one_line(error))
                trouble = type(error).__name__
        return state

    def finish(self, state: State, *, patience_s: float) -> None:
        """Send the rest, the end and the documents. Each can be sent twice, so a failure repeats them all."""
        deadline, pause = time.monotonic() + patience_s, _INTERVAL_S
        while True:
            try:
                run = self._send_new()
                self._send_end(run, state)
                run.upload(self._folder, with_model=state == "ended")
                log.info("MLflow run %s is complete", run.run_id)
                return
            except Exception as error:
                if time.monotonic() + pause > deadline:
                    raise TrackingError(f"{masked(self._uri)} does not take the run: {_one_line(error)}") from error
            time.sleep(pause)
            pause *= 2

    def _send_new(self) -> TrackedRun:
        run = self._run = self._run or self._open()
        if self._tail.was_cut():
            self._unsent.clear()
            run.start_over()
        self._send(run)
        for record in self._tail.records():
            self._unsent += run.points(record)
            if len(self._unsent) >= run.max_points:
                self._send(run)
        self._send(run)
        return run

    def _send(self, run: TrackedRun) -> None:
        while self._unsent:
            run.send(self._unsent[: run.max_points])
            del self._unsent[: run.max_points]

    def _open(self) -> TrackedRun:
        # Imported here: takes seconds, and must come after the environment is set.
        from mltrain.tracking.mlflow_run import open_run
        from mltrain.tracking.mlflow_store import connect

        facts = read_facts(self._folder)
        experiment = self._settings.get("experiment") or (facts.dataset.name if facts.dataset else "mltrain")
        client, experiment_id = connect(self._uri, experiment)
        run = open_run(client, experiment_id, self._uri, self._folder, facts)
        log.info("MLflow run %s of experiment %r in %s", run.run_id, experiment, masked(self._uri))
        return run

    def _send_end(self, run: TrackedRun, state: State) -> None:
        folder = self._folder
        if state == "ended":
            status = str(read_json(folder.summary)["status"])
            run.end(status, ended_at=folder.summary.stat().st_mtime)
            return
        # This may be said long after the end: the last sign of life counts.
        signs = [folder.config, folder.metadata, folder.metrics, *folder.logs.iterdir()]
        run.end(state, ended_at=max(path.stat().st_mtime for path in signs if path.exists()))


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


class _TrainerPipe:
    """What the training process says, or its silence."""

    def __init__(self, descriptor: int, trainer_pid: int) -> None:
        self._descriptor, self._trainer_pid = descriptor, trainer_pid

    def wait(self, seconds: float) -> State:
        """Wait for a word for at most so long."""
        # Loader processes that were forked hold the pipe open after a kill, hence the second sign of life. It is
        # asked for first: a last word comes before death.
        alive = os.getppid() == self._trainer_pid
        readable, _, _ = select.select([self._descriptor], [], [], seconds if alive else 0.0)
        if not readable:
            return "running" if alive else "died"
        word = os.read(self._descriptor, 64).strip()
        return "ended" if word == b"ended" else "failed" if word == b"failed" else "died"


def _one_line(error: Exception) -> str:
    return masked(f"{type(error).__name__}: {' '.join(str(error).split())}")[:400]


def _open_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def main() -> int:
    """Follow one run folder."""
    # A scheduler that stops a job signals every process of it; this one ends when the training process has.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)
    _open_log()
    with os.fdopen(0, "rb", buffering=0) as pipe:
        line = pipe.readline()
        if not line:  # the training process died before it said anything
            return 1
        settings = json.loads(line)
        trainer = _TrainerPipe(pipe.fileno(), settings["trainer_pid"])
        try:
            synchronize(RunFolder(Path(sys.argv[1])), settings, wait=trainer.wait)
        except TrackingError as error:
            log.error("%s", error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
