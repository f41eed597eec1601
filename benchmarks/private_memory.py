"""Peak memory of a private step, in a process of its own."""

from __future__ import annotations

import ctypes
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks import private_contenders
from benchmarks.problems import Problem

_Value = TypeVar("_Value")
_STEPS = 3
_STATUS = Path("/proc/self/status")


def in_new_process(function: Callable[..., _Value], *arguments: str) -> _Value:
    """Return what a function of a module gives in a process that was made for it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(_with_one_thread, function, *arguments).result()


def extra_memory(network: str, way: str, mode: str) -> int:
    """Return the bytes that a few steps take at their peak, over those before the first: weights and examples. Linux.

    Args:
        network: key of PRIVATE_NETWORKS.
        way: `plain_step`, `opacus_step` or `our_step`.
        mode: `hooks` or `ghost`.
    """
    make_step = getattr(private_contenders, way)
    # What the libraries themselves and their kernels take is there before.
    _take_steps(make_step, Problem("private_mlp", 1), mode)
    problem = Problem(network, 1)
    with torch.no_grad():
        problem.model()(problem.samples.inputs)
    ctypes.CDLL(None).malloc_trim(0)
    # 5 sets the peak to what is in use now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _size("VmRSS")
    _take_steps(make_step, problem, mode)
    return _size("VmHWM") - before


def _take_steps(make_step: Callable[..., private_contenders.Step], problem: Problem, mode: str) -> None:
    model = problem.model()
    step = make_step(model, problem.optimizer(model), problem.batch_size, mode)
    for _ in range(_STEPS):
        step(problem.samples.inputs, problem.samples.labels)


def _size(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _with_one_thread(function: Callable[..., _Value], *arguments: str) -> _Value:
    torch.set_num_threads(1)
    return function(*arguments)
