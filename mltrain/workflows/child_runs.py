"""Runs in processes of their own, which can be killed as a power cut would: all at once and unasked."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from mltrain.workflows.launch_state import STATE

__all__ = ["ChildRun", "CommandRun", "Launcher", "command_launcher", "kill_groups"]


class ChildRun(Protocol):
    """A run that goes on in processes of its own."""

    def poll(self) -> int | None:
        """Return the exit code, -n after signal n; None while the run lasts."""
        ...

    def kill(self) -> int:
        """Kill every process of the run with SIGKILL and return the exit code. A run that has ended stays as it is."""
        ...


Launcher = Callable[[Sequence[str], Path], ChildRun]
"""(words after `mltrain`, file that the output is appended to) -> the run, started."""


def command_launcher(num_processes: int) -> Launcher:
    """Return what starts the command itself, which launches as many processes as are wanted."""
    return lambda words, output: CommandRun(words, output, num_processes=num_processes)


class CommandRun:
    """`python -m mltrain ...`, with `--num_processes` where several are wanted.

    Args:
        words: the command after `mltrain`.
        output: file that standard output and errors are appended to.
        num_processes: of the run.
    """

    def __init__(self, words: Sequence[str], output: Path, *, num_processes: int) -> None:
        launch = ["--num_processes", str(num_processes)] if num_processes > 1 else []
        with output.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mltrain", *words, *launch],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._launched = num_processes > 1

    def poll(self) -> int | None:
        """Return the exit code, or None."""
        return self._process.poll()

    def kill(self) -> int:
        """Kill the process, its loader workers and, where it is a launcher, what it launched."""
        if self._process.poll() is None:
            groups, left = {self._process.pid}, set[str]()
            if self._launched:
                # A launcher gives each of its processes a session of its own. Stopped, it starts no more of them.
                os.kill(self._process.pid, signal.SIGSTOP)
                below = psutil.Process(self._process.pid).children(recursive=True)
                groups |= _groups_of(below)
                left = _state_folders_of(below)
            kill_groups(groups)
            self._process.wait()
            for folder in left:  # which a launcher that is killed cannot remove
                shutil.rmtree(folder, ignore_errors=True)
        return self._process.wait()


def kill_groups(groups: set[int]) -> None:
    """Send SIGKILL to process groups; one that is gone is passed over."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _groups_of(processes: Sequence[psutil.Process]) -> set[int]:
    groups = set()
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(process.pid))
    return groups


def _state_folders_of(processes: Sequence[psutil.Process]) -> set[str]:
    """Return the folder that a launch keeps its state in, as its processes know it."""
    folders = set()
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            folders.add(process.environ().get(STATE, ""))
    return folders - {""}
