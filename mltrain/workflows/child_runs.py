"""Runs in processes of their own, which can be killed as a power cut would: all at once and unasked."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil

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
    """Return what starts the command itself: through `accelerate launch` where several processes are wanted."""
    return lambda words, output: CommandRun(words, output, num_processes=num_processes)


class CommandRun:
    """`python -m mltrain ...`, or the same through `accelerate launch`.

    Args:
        words: the command after `mltrain`.
        output: file that standard output and errors are appended to.
        num_processes: of the run.
    """

    def __init__(self, words: Sequence[str], output: Path, *, num_processes: int) -> None:
        launch = _launch_words(num_processes) if num_processes > 1 else []
        with output.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, *launch, "-m", "mltrain", *words],
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
            groups = {self._process.pid}
            if self._launched:
                # A launcher gives each of its processes a session of its own. Stopped, it starts no more of them.
                os.kill(self._process.pid, signal.SIGSTOP)
                groups |= _groups_below(self._process.pid)
            kill_groups(groups)
        return self._process.wait()


def kill_groups(groups: set[int]) -> None:
    """Send SIGKILL to process groups; one that is gone is passed over."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _groups_below(pid: int) -> set[int]:
    """Return the process groups of all descendants."""
    groups = set()
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(process.pid))
    return groups


def _launch_words(num_processes: int) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1"]
    return [*words, "--num_processes", str(num_processes), "--main_process_port", str(port)]
