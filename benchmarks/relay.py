"""Contenders in processes of their own that take turns, a block of steps at a time.

All of them see the same moods of the machine: what they are compared by are differences within a round of turns.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.problems import Problem


@dataclass(frozen=True)
class Schedule:
    """How long is run. One round is a block of every contender."""

    warm_up: int
    block: int
    rounds: int

    @property
    def steps(self) -> int:
        return self.warm_up + self.block * self.rounds


@dataclass
class Laps:
    """Seconds a step of a contender, one entry a round; or why there are none."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    probe: float = float("nan")
    failure: str = ""


class Clock:
    """Counts a contender's steps, and holds it up at the end of each block until it is its turn again."""

    def __init__(self, pipe: Connection, problem: Problem, schedule: Schedule) -> None:
        self._pipe, self._problem, self._block = pipe, problem, schedule.block
        self._done, self._due = 0, schedule.warm_up
        self._wall = self._cpu = 0.0

    def tick(self, model: nn.Module) -> None:
        """Count a step that is done."""
        self._done += 1
        if self._done == self._due:
            self._hand_over(model)

    def _hand_over(self, model: nn.Module) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        if self._wall == 0.0:
            self._pipe.send(self._problem.probe(copy.deepcopy(model).eval()))
        else:
            self._pipe.send((wall / self._block, cpu / self._block))
        self._due += self._block
        self._pipe.recv()
        self._wall, self._cpu = time.perf_counter(), time.process_time()


Contender = Callable[..., None]


def race(
    network: str, schedule: Schedule, contenders: Mapping[str, tuple[Contender, dict[str, Any]]]
) -> dict[str, Laps]:
    """Return the laps of each contender: a function of (problem, clock) and further arguments."""
    laps = {name: Laps() for name in contenders}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        pipes: dict[str, Any] = {}
        processes = []
        for name, (function, arguments) in contenders.items():
            pipes[name], theirs = context.Pipe()
            folder = Path(scratch) / name.replace(" ", "_")
            folder.mkdir()
            processes.append(
                context.Process(target=_run, args=(function, arguments, network, schedule, theirs, folder))
            )
            processes[-1].start()
            theirs.close()
        for name in list(pipes):
            laps[name].probe = _receive(name, pipes, laps)
        for number in range(schedule.rounds):
            names = list(pipes)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                pipes[name].send(None)
                wall, cpu = _receive(name, pipes, laps) or (0.0, 0.0)
                if name in pipes:
                    laps[name].wall.append(wall)
                    laps[name].cpu.append(cpu)
        for pipe in pipes.values():
            pipe.send(None)
        for process in processes:
            process.join()
    return laps


def over(laps: Laps, base: Laps, attribute: str = "wall") -> tuple[float, float, float]:
    """Return medians over the rounds: seconds a step, seconds over `base`, ratio to `base`."""
    mine, theirs = getattr(laps, attribute), getattr(base, attribute)
    pairs = list(zip(mine, theirs, strict=True))
    return (
        statistics.median(mine),
        statistics.median(a - b for a, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def _receive(name: str, pipes: dict[str, Any], laps: dict[str, Laps]) -> Any:
    try:
        message = pipes[name].recv()
    except EOFError:
        message = "ended early"
    if isinstance(message, str):
        laps[name].failure = message
        del pipes[name]
        return None
    return message


def _run(
    function: Contender, arguments: dict[str, Any], network: str, schedule: Schedule, pipe: Connection, folder: Path
) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.stdout = sys.stderr = (folder / "output.txt").open("w")
    problem = Problem(network, schedule.steps)
    try:
        function(problem, Clock(pipe, problem, schedule), **arguments)
    except ModuleNotFoundError as error:
        pipe.send(f"{error.name} is not installed")
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        raise
