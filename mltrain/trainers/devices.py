"""Small things that depend on the device, decided once so that the loop need not ask."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs, KwargsHandler

from mltrain.core.hardware import check_device, process_count
from mltrain.core.network import choose_interface
from mltrain.data.loader import Batch

__all__ = ["new_accelerator", "reseeder", "seed_everything", "sender"]


def new_accelerator(
    device: str, *, mixed_precision: str | None, collective_timeout_s: float | None = None, **settings: Any
) -> Accelerator:
    """Return an Accelerator.

    Accelerate keeps its state process-wide; it is cleared first, so that one process can train several runs.

    Args:
        device: "auto", "cpu", "cuda:1".
        mixed_precision: None takes the launcher's.
        collective_timeout_s: how long a process waits for another one; None: as long as torch does by itself.
        settings: further arguments of the Accelerator.
    """
    name = check_device(device)
    AcceleratorState._reset_state(reset_partial_state=process_count() == 1)
    GradientState._reset_state()
    choose_interface()
    if name.startswith("cuda:"):
        torch.cuda.set_device(int(name.partition(":")[2]))
    if name == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    else:
        os.environ.pop("ACCELERATE_USE_CPU", None)
    handlers: list[KwargsHandler] = [DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    if collective_timeout_s is not None:
        # Accelerate passes on what differs from its own defaults, one of which is a whole number of seconds.
        timeout = timedelta(seconds=collective_timeout_s, microseconds=1)
        handlers.append(InitProcessGroupKwargs(timeout=timeout))
    return Accelerator(
        cpu=name == "cpu",
        mixed_precision=mixed_precision,
        # The schedule is a function of the step; nothing may step it once a process.
        step_scheduler_with_optimizer=False,
        kwargs_handlers=handlers,
        **settings,
    )


def seed_everything(key: int) -> None:
    """Seed Python's, NumPy's and torch's global generators from a 64-bit key."""
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)
    torch.manual_seed(key >> 1)


def reseeder(device: torch.device, rank: int) -> Callable[[int], None]:
    """Return a function that seeds the model's generators of a rank from a 64-bit key: each step from its own."""
    # torch.manual_seed reaches every generator of every device and costs several times as much.
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
        generators.append(torch.cuda.default_generators[index])
    offset = rank * 0x9E3779B97F4A7C15

    def reseed(key: int) -> None:
        seed = (key + offset) & 0x7FFFFFFFFFFFFFFF
        for generator in generators:
            generator.manual_seed(seed)

    return reseed


def sender(device: torch.device) -> Callable[[Batch], Batch]:
    """Return a function that puts a batch on the device."""
    if device.type == "cpu":
        return lambda batch: batch
    return lambda batch: {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
