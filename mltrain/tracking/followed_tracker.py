"""A tracker whose store is fed by another process, which follows the run folder.

Clients of stores take seconds to import, hold the interpreter while they write, and block where a server is away. The
follower pays for that, sees how the training process ends even if it is killed, and may be late: the run folder waits.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mltrain.core.files import read_json
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.base import Tracker, TrackingError
from mltrain.tracking.sink import State

__all__ = ["FollowedTracker", "typed"]

_LISTEN_EVERY_S = 1.0
# Once the store is known not to take the run, its follower is left to its last try.
_HOPELESS_TIMEOUT_S = 5.0


class FollowedTracker(Tracker, ABC):
    """Base of the trackers that come with mltrain; a subclass says what the follower needs and where people look.

    Settings:
        finish_timeout_s: how long `close` waits for the store to have everything.
    """

    name: ClassVar[str]
    """As it is registered; `<name>_sink.py` is the follower's side."""

    title: ClassVar[str]
    """As people know it."""

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self._timeout_s = float(settings.get("finish_timeout_s", 60.0))
        self._log_file = folder.tracking / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._heard, self._listen_at = b"", 0.0
        self._trouble = ""

    def sink_settings(self) -> dict[str, Any]:
        """Return what the follower is told."""
        return dict(self.settings)

    @abstractmethod
    def where(self) -> str:
        """Return the command, or the address, that shows the run."""

    def store(self) -> str:
        """Return what the store is called in messages."""
        return self.title

    def sent_text(self, sent: int) -> str:
        """Return what `synchronize` says of so many values that were sent."""
        return f"{sent} values sent" if sent else "nothing was missing"

    # ---- while the run goes on -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the follower; costs the start of a process and waits for nothing."""
        settings = {**self.sink_settings(), "finish_timeout_s": self._timeout_s, "trainer_pid": os.getpid()}
        try:
            self.folder.tracking.mkdir(exist_ok=True)
            with self._log_file.open("ab") as output:
                self._process = subprocess.Popen(
                    # -P: a file of the user's in the working folder must not stand in for a module.
                    [sys.executable, "-P", "-m", "mltrain.tracking.follower", self.name, str(self.folder.path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    bufsize=0,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is for the training process alone
                )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            os.set_blocking(self._process.stdout.fileno(), False)
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        except OSError as error:
            self._trouble = f"{type(error).__name__}: {error}"
            log.warning("%s is not fed: %s. Every value is in %s.", self.title, error, self.folder.metrics)

    def log(self, record: Mapping[str, Any]) -> None:
        """Hear, now and then, whether the store takes the run; the values go by way of the folder."""
        if time.monotonic() >= self._listen_at:
            self._listen_at = time.monotonic() + _LISTEN_EVERY_S
            self._listen()

    def end(self) -> None:
        """Say that the run has ended."""
        if self._process is None or self._process.stdin is None:
            return
        ended = self._end_of_run() == "ended"
        with contextlib.suppress(OSError):  # if it is gone, its exit code tells
            self._process.stdin.write(b"ended\n" if ended else b"failed\n")
        self._process.stdin.close()

    def close(self) -> None:
        """Wait, for the time set, until the store has everything."""
        if self._process is None:
            return
        self._trouble = (self._words() or [self._trouble])[-1]
        timeout_s = min(self._timeout_s, _HOPELESS_TIMEOUT_S) if self._trouble else self._timeout_s
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._trouble = self._trouble or "it is slow"
            log.warning(
                "%s has not taken everything within %g s; its follower goes on in the background (see %s).",
                self.store(), timeout_s, self._log_file,
            )  # fmt: skip
        else:
            self._trouble = (
                "" if code == 0 else [f"exit code {code}", *filter(None, [self._trouble]), *self._words()][-1]
            )
            if code != 0:
                log.warning("%s has not taken everything: %s.", self.store(), self._trouble.rstrip("."))
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def describe(self) -> str:
        """Return the line that tells people where the run is shown, or how to send it."""
        if self._trouble:
            return f"{self.title}: not complete; send the rest with mltrain sync {typed(self.folder.path)}"
        return f"{self.title}: {self.where()}"

    # ---- afterwards ------------------------------------------------------------------------------------------------

    def synchronize(self) -> str:
        """Feed the store from this process."""
        from mltrain.tracking.feeding import feed

        settings = {**self.sink_settings(), "finish_timeout_s": min(self._timeout_s, 10.0)}
        state = self._end_of_run()

        try:
            sent = feed(self.name, self.folder, settings, wait=lambda _: state, other_timeout_s=10.0)
        except TrackingError as error:
            raise TrackingError(f"{self.store()} has not taken everything: {error}") from error
        return f"{self.sent_text(sent)}. {self.where()}"

    # ---- pieces ----------------------------------------------------------------------------------------------------

    def _end_of_run(self) -> State:
        """Return `ended` if the last segment wrote how it ended, `died` if its summary says that it is running."""
        try:
            return "died" if read_json(self.folder.summary)["status"] == "running" else "ended"
        except (OSError, ValueError, LookupError, TypeError):
            return "died"

    def _listen(self) -> None:
        """Take in what the follower has said, and tell people of trouble once."""
        for word in self._words():
            before, self._trouble = self._trouble, word
            if word and not before:
                log.warning(
                    "%s does not take the run: %s. Training goes on, and so do the attempts.",
                    self.store(), word.rstrip("."),
                )  # fmt: skip
            elif before and not word:
                log.info("%s takes the run again.", self.store())

    def _words(self) -> list[str]:
        """Return what the follower has said since the last call, without waiting."""
        if self._process is None or self._process.stdout is None:
            return []
        self._heard += self._process.stdout.read(1 << 16) or b""
        *lines, self._heard = self._heard.split(b"\n")
        return [str(json.loads(line)) for line in lines]


def typed(path: Path) -> str:
    """Return an absolute path as people type it here."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _environment() -> dict[str, str]:
    """Return the follower's environment: ours, and the way to this package where it is not installed."""
    root = Path(__file__).resolve().parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
