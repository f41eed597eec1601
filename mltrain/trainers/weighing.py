"""How much each example of a window counts."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mltrain.data.loader import Batch, Window
from mltrain.tasks.base import Task
from mltrain.tasks.contract import total_weight, weights_of
from mltrain.trainers.processes import Processes
from mltrain.trainers.timing import Timing

__all__ = ["Weighing"]


class Weighing:
    """Weights of examples on the device, and their sum over a window and all processes.

    Args:
        task: gives the weights.
        device: where they are wanted.
        processes, timing: of the run.
    """

    def __init__(self, task: Task, device: torch.device, processes: Processes, timing: Timing) -> None:
        self._task, self._device, self._processes, self._timing = task, device, processes, timing
        self._weighted = type(task).example_weights is not Task.example_weights

    def of_batch(self, host_batch: Batch, *, filler: bool) -> torch.Tensor | None:
        """Return the weight of each example, shape (B,), or None where each counts once."""
        if filler:
            return torch.zeros(1, device=self._device)
        weights = weights_of(self._task, host_batch) if self._weighted else None
        return None if weights is None else weights.to(self._device, non_blocking=True)

    def of_window(self, window: Window) -> tuple[Iterator[Batch], float]:
        """Return the window's batches and the sum of its examples' weights over all ranks."""
        if not self._weighted:
            return window.batches, window.num_examples
        batches = [self._timing.wait_for(window.batches) for _ in range(window.num_microbatches)]
        weights = [self.of_batch(batch, filler=number >= window.num_own) for number, batch in enumerate(batches)]
        total = self._processes.sum(sum(float(w.sum()) for w in weights if w is not None))
        return iter(batches), total_weight(self._task, total)
