"""Commands as processes that a test can watch, signal and kill, alone or as ranks, with mounts of their own.

They are forked from a server that has imported torch.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rank_environment import rank_environments
from warm_process import run_here, warm_context

__all__ = ["WarmCommand", "need_mounts", "ranks", "read_only", "wait_until"]

_TIMEOUT_S = 120
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS


class WarmCommand:
    """`mltrain ...`, or `python -c PROGRAM`, in a process group of its own.

    Args:
        words: the command.
        folder: where it runs.
        environment: beside what is there.
        mounts: arguments of `mount`, for a mount namespace that only this process sees.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        mounts: Sequence[Sequence[str]] = (),
    ) -> None:
        self._words = list(words)
        with tempfile.NamedTemporaryFile(prefix="errors", dir=folder, delete=False) as errors:
            self._errors = Path(errors.name)
        arguments = (self._words, folder, str(self._errors), dict(environment or {}), [list(one) for one in mounts])
        self._process: Any = warm_context().Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        """The process."""
        return int(self._process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return bool(self._process.is_alive())

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for the end and return it."""
        self._process.join(_TIMEOUT_S)
        if self._process.exitcode is None:
            self.kill()
            raise subprocess.TimeoutExpired(self._words, _TIMEOUT_S, stderr=self._errors.read_bytes())
        return subprocess.CompletedProcess(self._words, self._process.exitcode, stderr=self._errors.read_text("utf-8"))

    def kill(self) -> None:
        """Send SIGKILL to the process and wait for its end."""
        self._process.kill()
        self._process.join()


def ranks(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> list[WarmCommand]:
    """Start a command as the two processes of a run, which find each other as those of a launcher do."""
    return [WarmCommand(words, folder, {**environment, **variables}) for variables in rank_environments(2)]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when a condition holds."""
    end = time.monotonic() + _TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def need_mounts() -> None:
    """Skip the test, loudly, where this user cannot have mounts of its own."""
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"NOT TESTED: a mount namespace cannot be made here ({tried.stderr.strip()}); run as root")


def read_only(folder: Path) -> list[list[str]]:
    """Return the mounts that make a folder read-only."""
    return [["--bind", str(folder), str(folder)], ["-o", "remount,ro,bind", str(folder)]]


def _run(words: list[str], folder: Path, errors: str, environment: dict[str, str], mounts: list[list[str]]) -> None:
    os.setsid()
    os.environ.update(environment)
    if mounts:
        if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for arguments in [["--make-rprivate", "/"], *mounts]:
            subprocess.run(["mount", *arguments], check=True)
    run_here(words, folder, errors)
