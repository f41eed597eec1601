"""How long a checkpoint holds up training, beside `torch.save` of the same state in the same process."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import ours
from benchmarks.problems import Problem
from mltrain.callbacks.base import Callback, register_callback

_ROUNDS = 5
_FIRST_STEP = 2
# Steps that follow each save: the background has done its work by their end.
_STEPS = 15

_held_up: dict[str, list[float]] = {}
_in_all: dict[str, list[float]] = {}


class _Ignore:
    def tick(self, model: nn.Module) -> None: ...


@register_callback("benchmark_stall")
class Stall(Callback):
    """Saves in each way in turn, some steps apart, and times the call and the steps that follow it."""

    def __init__(self) -> None:
        self._way, self._started = "", 0.0

    def on_step_end(self, loop: Any) -> None:
        turn, step = divmod(loop.position.step - _FIRST_STEP, _STEPS)
        if turn < 0 or step:
            return
        if self._way:
            _in_all.setdefault(self._way, []).append(time.perf_counter() - self._started)
        loop.settle_checkpoint(wait=True)
        os.sync()
        ways = _ways(loop)
        self._way = list(ways)[turn % len(ways)]
        self._started = time.perf_counter()
        ways[self._way]()
        _held_up.setdefault(self._way, []).append(time.perf_counter() - self._started)


def _ways(loop: Any) -> dict[str, Callable[[], Any]]:
    state = {"model": loop.plain_model.state_dict(), "optimizer": loop.optimizer.state_dict()}
    path = Path("state.pt")
    return {
        "nothing": lambda: None,
        "torch.save": lambda: torch.save(state, path),
        "torch.save, flushed to the disk": lambda: _save_flushed(state, path),
        "mltrain checkpoint": loop.save_checkpoint,
    }


def stall() -> dict[str, Any]:
    """Return median seconds of each way to save, and the megabytes saved; the working folder is written to.

    held_up: until training goes on. in_all: with what the steps after it take longer than without a save.
    """
    _held_up.clear()
    _in_all.clear()
    ours.run(
        Problem("wide_mlp", _FIRST_STEP + 4 * _ROUNDS * _STEPS),
        _Ignore(),
        {"callbacks.benchmark_stall": {}, "checkpointing.keep_last": 2},
    )
    nothing = statistics.median(_in_all["nothing"])
    saves = [way for way in _held_up if way != "nothing"]
    return {
        "megabytes": Path("state.pt").stat().st_size / 1e6,
        "held_up": {way: statistics.median(_held_up[way]) for way in saves},
        "in_all": {way: statistics.median(_in_all[way]) - nothing for way in saves},
    }


def _save_flushed(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
