"""Runs that can be killed, as `mltrain.workflows.child_runs` has them, without the seconds that importing torch takes.

Each process is a real one of its own; it is forked from a server that has imported torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rank_environment import rank_environments
from warm_process import run_here, warm_context

from mltrain.workflows.child_runs import Launcher, kill_groups

__all__ = ["WarmRun", "warm_launcher"]


def warm_launcher(num_processes: int = 1) -> Launcher:
    """Return what starts runs of so many processes."""
    return lambda words, output: WarmRun(words, output, num_processes)


class WarmRun:
    """`mltrain ...` in one process, or in several that find each other as those of `accelerate launch` do."""

    def __init__(self, words: Sequence[str], output: Path, num_processes: int) -> None:
        context = warm_context()
        self._processes: list[Any] = []
        for environment in rank_environments(num_processes):
            arguments = (["mltrain", *words], Path.cwd(), str(output), environment)
            process = context.Process(target=_run, args=arguments)
            process.start()
            self._processes.append(process)

    def poll(self) -> int | None:
        codes = [process.exitcode for process in self._processes]
        if any(codes):
            return self.kill()  # a process that waits for a dead one would wait long
        return None if None in codes else 0

    def kill(self) -> int:
        alive = [process for process in self._processes if process.exitcode is None]
        kill_groups({process.pid for process in alive})
        for process in alive:
            process.kill()  # it may not lead a group yet
        for process in self._processes:
            process.join(30)
        codes = [process.exitcode for process in self._processes]
        return next((code for code in codes if code), 0)


def _run(command: list[str], folder: Path, output: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    run_here(command, folder, output)
