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

_SAVES = 7
_FIRST_STEP = 2

_seconds: dict[str, list[float]] = {}


class _Ignore:
    def tick(self, model: nn.Module) -> None: ...


@register_callback("benchmark_stall")
class Stall(Callback):
    """Saves in each way in turn, once a step."""

    def on_step_end(self, loop: Any) -> None:
        if loop.position.step < _FIRST_STEP:
            return
        state = {"model": loop.plain_model.state_dict(), "optimizer": loop.optimizer.state_dict()}
        path = Path("state.pt")
        _measure("torch.save", lambda: torch.save(state, path))
        _measure("torch.save, flushed to the disk", lambda: _save_flushed(state, path))
        _measure("mltrain checkpoint", loop.save_checkpoint)


def stall() -> dict[str, Any]:
    """Return median seconds of each way to save, and the megabytes saved; the working folder is written to."""
    _seconds.clear()
    ours.run(
        Problem("wide_mlp", _FIRST_STEP + _SAVES),
        _Ignore(),
        {"callbacks.benchmark_stall": {}, "checkpointing.keep_last": 2},
    )
    medians = {name: statistics.median(seconds) for name, seconds in _seconds.items()}
    return {"megabytes": Path("state.pt").stat().st_size / 1e6, "seconds": medians}


def _save_flushed(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _measure(name: str, save: Callable[[], Any]) -> None:
    os.sync()
    started = time.perf_counter()
    save()
    _seconds.setdefault(name, []).append(time.perf_counter() - started)
