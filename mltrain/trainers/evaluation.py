"""One pass over a split without training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import nn

from mltrain.core.errors import HardwareError
from mltrain.data.loader import Batch, EvaluationLoader
from mltrain.tasks.base import Task
from mltrain.trainers.memory import is_out_of_memory
from mltrain.trainers.meter import Meter

__all__ = ["evaluate"]


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
                losses = task.losses(model, batch)
            if not filler:
                meter.add(losses, batch, weights(host_batch, filler=False))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise HardwareError(
            "out of memory in an evaluation",
            where="training.eval_batch_size",
            fix="Lower it: no result depends on it. Then continue with --resume.",
        ) from error
    finally:
        model.train(was_training)
    return meter
