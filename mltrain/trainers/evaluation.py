"""One pass over a split without training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from mltrain.core.errors import HardwareError
from mltrain.data.loader import Batch, EvaluationLoader
from mltrain.tasks.base import Task
from mltrain.tasks.contract import losses_of
from mltrain.trainers.loaders import Loaders
from mltrain.trainers.memory import fits_memory
from mltrain.trainers.meter import Meter

__all__ = ["evaluate", "evaluate_in_memory"]


@torch.inference_mode()
def evaluate(
    task: Task,
    model: nn.Module,
    loader: EvaluationLoader,
    *,
    to_device: Callable[[Batch], Batch],
    weights: Callable[..., torch.Tensor | None],
    autocast: Callable[[], AbstractContextManager[None]],
    interrupted: Callable[[], bool],
) -> Meter | None:
    """Return what this rank's share of a split adds up to, or None when the run is to stop.

    Args:
        model: left in the mode (training or evaluation) that it came in.
        weights: gives the weights of a batch's examples, or None where each counts once.
        interrupted: asked before each batch.
    """
    meter = Meter(task.metrics())
    was_training = model.training
    model.eval()
    try:
        for host_batch, filler in loader:
            if interrupted():
                return None
            batch = to_device(host_batch)
            with autocast():
                losses = losses_of(task, model, batch)
            if not filler:
                meter.add(losses, batch, weights(host_batch, filler=False))
    finally:
        model.train(was_training)
    return meter


def evaluate_in_memory(
    loaders: Loaders, split: str, evaluate_with: Callable[[EvaluationLoader], Meter | None]
) -> Meter | None:
    """Evaluate a split; where memory does not suffice, once more from its beginning, in smaller batches.

    Args:
        loaders: give the split's loader, and smaller batches from then on.
        split: its name.
        evaluate_with: evaluates with a loader.

    Raises:
        HardwareError: not even one example fits; or one of several processes, which evaluate in step, has no room.
    """
    found: list[Meter | None] = []
    while not fits_memory(lambda: found.append(evaluate_with(loaders.evaluation(split)))):
        if not loaders.make_evaluation_smaller():
            raise HardwareError(
                "out of memory in an evaluation",
                where="training.eval_batch_size",
                fix="Lower it: no result depends on it. Then continue with --resume.",
            )
    return found[-1]
