"""The order in which the samples of a task are trained on."""

from __future__ import annotations

from mltrain.data.bucketed_plan import BucketedPlan
from mltrain.data.plan import ShuffledPlan
from mltrain.tasks.base import Task

__all__ = ["training_plan"]


def training_plan(task: Task, num_samples: int, window_size: int, seed: int) -> ShuffledPlan | BucketedPlan:
    """Return which samples make up which window.

    Args:
        task: says whether windows hold samples of similar length.
        num_samples: size of the training split.
        window_size: samples of a full window, over all ranks.
        seed: the run's seed.
    """
    lengths = task.sample_lengths()
    if lengths is None:
        return ShuffledPlan(num_samples, window_size, seed)
    return BucketedPlan(lengths, window_size, seed)
