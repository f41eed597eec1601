"""The process that feeds a tracker's store: follows a run folder until its training process ends, and says how.

    python -m mltrain.tracking.follower TRACKER RUN_FOLDER

The tracker starts it with a pipe: one line of settings (JSON), then nothing until `ended` (`summary.json` says how) or
`failed`. A pipe that closes without a word, or a training process that is gone, means that it died. On its standard
output the follower says, one JSON text a line, what keeps the store from taking the run; an empty text: nothing does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import sys
from pathlib import Path

from mltrain.core.logging import log
from mltrain.core.masking import masked
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.base import TrackingError
from mltrain.tracking.feeding import feed
from mltrain.tracking.sink import State

__all__ = ["main"]


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


class _Reports:
    """What is said to the training process; it may be gone, or not listen, and is never waited for."""

    def __init__(self) -> None:
        self._descriptor = os.dup(1)
        os.set_blocking(self._descriptor, False)
        os.dup2(2, 1)  # what libraries print belongs into the log

    def __call__(self, trouble: str) -> None:
        """Say one line."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, json.dumps(trouble).encode() + b"\n")


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
    reports = _Reports()
    name, folder = sys.argv[1], RunFolder(Path(sys.argv[2]))
    with os.fdopen(0, "rb", buffering=0) as pipe:
        line = pipe.readline()
        if not line:  # the training process died before it said anything
            return 1
        settings = json.loads(line)
        trainer = _TrainerPipe(pipe.fileno(), settings["trainer_pid"])
        try:
            feed(name, folder, settings, wait=trainer.wait, report=reports)
        except TrackingError as error:
            log.error("%s", masked(str(error)))
            reports(str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
