"""Contenders in processes of their own that take turns, a block of steps at a time.

All of them see the same moods of the machine, so they are compared within a heat. Two processes of one program differ
by a few percent for all of their life (where their memory happens to lie), so there are several heats, each with new
processes.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.problems import Problem

Contender = Callable[..., None]
"""A function of (problem, clock) and further arguments."""

# Freed memory stays with the process. By default glibc hands large blocks back to the kernel in some processes and not
# in others, by luck: up to a millisecond a step of page faults on the larger network.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


@dataclass(frozen=True)
class Schedule:
    """How long is run.

    warm_up: steps before the first turn.
    block: steps of a turn.
    turns: turns of each contender in a round, which is what gives one figure.
    rounds: rounds of a heat, in the same processes.
    heats: how often all start anew.
    """

    warm_up: int
    block: int
    turns: int
    rounds: int
    heats: int

    @property
    def steps(self) -> int:
        """Optimizer steps of a contender in one heat."""
        return self.warm_up + self.block * self.turns * self.rounds


@dataclass
class Laps:
    """What a contender did in one heat.

    wall, cpu: seconds a step, one entry a round.
    probe: loss on fixed samples after the warm-up.
    failure: why there are no figures.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    probe: float = float("nan")
    failure: str = ""


@dataclass(frozen=True)
class Comparison:
    """Medians: seconds a step, seconds over the base, ratio to it; and the lowest and highest `over` of a heat."""

    each: float
    over: float
    ratio: float
    lowest: float
    highest: float


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
            self._pipe.send((wall, cpu))
        self._due += self._block
        self._pipe.recv()
        self._wall, self._cpu = time.perf_counter(), time.process_time()


def race(
    network: str, schedule: Schedule, contenders: Mapping[str, tuple[Contender, dict[str, Any]]]
) -> dict[str, list[Laps]]:
    """Return the laps of each contender, one entry a heat."""
    heats = [_heat(network, schedule, contenders) for _ in range(schedule.heats)]
    return {name: [heat[name] for heat in heats] for name in contenders}


def compare(mine: Sequence[Laps], base: Sequence[Laps], attribute: str) -> Comparison:
    """Compare a contender with another, by "wall" or "cpu": within a round first, then over rounds, then over heats."""
    heats = [
        list(zip(getattr(own, attribute), getattr(other, attribute), strict=True))
        for own, other in zip(mine, base, strict=True)
    ]
    differences = [statistics.median(own - other for own, other in rounds) for rounds in heats]
    return Comparison(
        each=statistics.median(statistics.median(own for own, _ in rounds) for rounds in heats),
        over=statistics.median(differences),
        ratio=statistics.median(statistics.median(own / other for own, other in rounds) for rounds in heats),
        lowest=min(differences),
        highest=max(differences),
    )


def _heat(
    network: str, schedule: Schedule, contenders: Mapping[str, tuple[Contender, dict[str, Any]]]
) -> dict[str, Laps]:
    laps = {name: Laps() for name in contenders}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        os.environ.update(_KEEP_MEMORY)
        pipes: dict[str, Connection] = {}
        processes: list[BaseProcess] = []
        for name, (function, arguments) in contenders.items():
            folder = Path(scratch) / name
            process, pipes[name] = _start(function, arguments, network, schedule, folder)
            processes.append(process)
        for name in contenders:
            laps[name].probe = _receive(pipes, name, laps[name])
        for _ in range(schedule.rounds):
            _round(pipes, laps, schedule)
        for pipe in pipes.values():
            pipe.send("finish")
        for process in processes:
            process.join()
    return laps


def _round(pipes: dict[str, Connection], laps: dict[str, Laps], schedule: Schedule) -> None:
    totals = {name: [0.0, 0.0] for name in pipes}
    for _ in range(schedule.turns):
        for name in random.sample(list(pipes), len(pipes)):
            pipes[name].send("go")
            lap = _receive(pipes, name, laps[name])
            if lap is not None:
                totals[name] = [total + seconds for total, seconds in zip(totals[name], lap, strict=True)]
    for name in pipes:
        laps[name].wall.append(totals[name][0] / (schedule.block * schedule.turns))
        laps[name].cpu.append(totals[name][1] / (schedule.block * schedule.turns))


def _start(
    function: Contender, arguments: dict[str, Any], network: str, schedule: Schedule, folder: Path
) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(function, arguments, network, schedule, theirs, folder))
    process.start()
    theirs.close()
    return process, ours


def _receive(pipes: dict[str, Connection], name: str, laps: Laps) -> Any:
    """Return a contender's next message; one that failed is left out from then on."""
    try:
        message = pipes[name].recv()
    except EOFError:
        message = "ended early"
    if isinstance(message, str):
        laps.failure = message
        del pipes[name]
        return None
    return message


def _run(
    function: Contender, arguments: dict[str, Any], network: str, schedule: Schedule, pipe: Connection, folder: Path
) -> None:
    folder.mkdir()
    os.chdir(folder)
    sys.stdout = sys.stderr = Path("output.txt").open("w")  # noqa: SIM115 (open until the process ends)
    torch.set_num_threads(1)
    problem = Problem(network, schedule.steps)
    try:
        function(problem, Clock(pipe, problem, schedule), **arguments)
    except ModuleNotFoundError as error:
        pipe.send(f"{error.name} is not installed")
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
