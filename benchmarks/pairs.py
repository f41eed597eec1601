"""Contenders of two processes: the one that the relay started is rank 0, and starts the other.

Both wait at the end of each block, so that nothing of them runs in another contender's turn. They have a network of
their own where this user may have one, whose counter tells the bytes that they send.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from benchmarks.contenders import Ticker, train_by_hand
from benchmarks.problems import Problem, collate
from benchmarks.relay import Schedule

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_PROCESSES = 2

Loop = Callable[[Problem, Ticker, int], None]
"""Trains a problem as one of two processes, given its rank."""


def by_hand(problem: Problem, clock: Ticker, network: str, schedule: Schedule, traffic: Path) -> None:
    """PyTorch's DistributedDataParallel in a plain loop."""
    _as_pair(problem, clock, _by_hand, network, schedule, traffic)


def ours(problem: Problem, clock: Ticker, network: str, schedule: Schedule, traffic: Path) -> None:
    """mltrain with its trainer `accelerate`."""
    _as_pair(problem, clock, _ours, network, schedule, traffic)


def ours_alone(problem: Problem, clock: Ticker) -> None:
    """The same in one process."""
    from benchmarks.ours import run

    run(problem, clock, {"training.trainer_type": "accelerate"})


def _by_hand(problem: Problem, clock: Ticker, rank: int) -> None:
    dist.init_process_group("gloo")
    model = problem.model()
    wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    loader: DataLoader[Any] = DataLoader(
        problem.samples, problem.batch_size // _PROCESSES, sampler=_share(problem, rank), collate_fn=collate
    )
    # Equal shares: the average of DDP is the mean over the window.
    train_by_hand(model, wrapped, problem.optimizer(model), loader, clock, Path(f"log_{rank}.jsonl"))
    dist.destroy_process_group()


def _ours(problem: Problem, clock: Ticker, _: int) -> None:
    from benchmarks.ours import run

    size = problem.batch_size // _PROCESSES
    run(problem, clock, {"training.trainer_type": "accelerate", "training.batch_size": size})


def _share(problem: Problem, rank: int) -> list[int]:
    """Return a rank's samples in order: its half of each window."""
    size = problem.batch_size // _PROCESSES
    order = list(problem.order)
    starts = range(rank * size, len(order), problem.batch_size)
    return [index for start in starts for index in order[start : start + size]]


# ---- two processes -------------------------------------------------------------------------------------------------


class _Together:
    """The clock of one of two processes: both are held up until it is their turn.

    Args:
        clock: the relay's, of rank 0; None: of rank 1, which follows.
        barrier: where they meet.
        schedule: when a block ends.
    """

    def __init__(self, clock: Ticker | None, barrier: Barrier, schedule: Schedule) -> None:
        self._clock, self._barrier = clock, barrier
        self._done, self._due, self._block = 0, schedule.warm_up, schedule.block
        self.sent: list[int] = []

    def tick(self, model: nn.Module) -> None:
        """Count a step that is done."""
        self._done += 1
        ends = self._done == self._due
        if ends:
            self._due += self._block
            self._barrier.wait()  # the other has sent all that belongs to the block
            self.sent.append(psutil.net_io_counters(pernic=True)["lo"].bytes_sent)
        if self._clock is not None:
            self._clock.tick(model)
        if ends:
            self._barrier.wait()


def _as_pair(problem: Problem, clock: Ticker, loop: Loop, network: str, schedule: Schedule, traffic: Path) -> None:
    alone = _own_network()
    context = multiprocessing.get_context("spawn")
    barrier, port = context.Barrier(_PROCESSES), _free_port()
    other = context.Process(target=_follow, args=(loop, network, schedule, barrier, port))
    other.start()
    _enter(0, port)
    together = _Together(clock, barrier, schedule)
    loop(problem, together, 0)
    other.join()
    steps = schedule.block * (len(together.sent) - 1)
    bytes_a_step = (together.sent[-1] - together.sent[0]) / steps / _PROCESSES
    traffic.write_text(json.dumps(bytes_a_step if alone else None))


def _follow(loop: Loop, network: str, schedule: Schedule, barrier: Barrier, port: int) -> None:
    sys.stdout = sys.stderr = Path("output_1.txt").open("w")  # noqa: SIM115 (open until the process ends)
    torch.set_num_threads(1)
    _enter(1, port)
    loop(Problem(network, schedule.steps), _Together(None, barrier, schedule), 1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _enter(rank: int, port: int) -> None:
    """Set what a launcher sets."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(_PROCESSES),
        LOCAL_WORLD_SIZE=str(_PROCESSES),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        GLOO_SOCKET_IFNAME="lo",
    )


def _own_network() -> bool:
    """Enter a network of this process's own; returns False where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) != 0:
        return False
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return True
