"""Microbatches of private training in which the gradient of an example may not be finite.

Stopping on such an example would tell that it is there, and its gradient cannot be clipped. It contributes nothing,
which is within what one example may contribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mltrain.core.logging import log
from mltrain.data.batches import Batch
from mltrain.trainers.nonfinite import NonFiniteLossError

if TYPE_CHECKING:
    from mltrain.trainers.dp import DPTrainer

__all__ = ["SoundExamples"]

_MOST_IN_A_ROW = 10


class SoundExamples:
    """Adds the clipped gradients of a microbatch; one with examples that are not finite is computed without them.

    Args:
        trainer: whose model, task, meter and update are used.
    """

    def __init__(self, trainer: DPTrainer) -> None:
        self._trainer = trainer
        self._told = False
        self._none_in_a_row = 0

    def add(self, batch: Batch) -> None:
        """Add a microbatch.

        Raises:
            NonFiniteLossError: for ten microbatches nothing was finite, so that only noise is learned.
        """
        trainer = self._trainer
        losses = trainer.task.losses(trainer.model, batch)
        norms = trainer.private_update.add(losses.values)
        sound = torch.isfinite(norms)
        if bool(sound.all()):
            self._none_in_a_row = 0
            trainer.meter.add(losses, batch, None)
            return
        trainer.meter.leave_out(losses)
        self._tell(int((~sound).sum()), len(sound))
        if bool(sound.any()):
            self._none_in_a_row = 0
            rest = trainer.private_update.add(trainer.task.losses(trainer.model, _only(batch, sound)).values)
            if not bool(torch.isfinite(rest).all()):
                # Other draws of dropout, say: nothing of the microbatch has been added.
                self._tell(len(sound), len(sound))
            return
        self._none_in_a_row += 1
        if self._none_in_a_row >= _MOST_IN_A_ROW:
            raise NonFiniteLossError(
                f"no example had a finite gradient in the last {_MOST_IN_A_ROW} microbatches, up to step "
                f"{trainer.position.step + 1}: only noise is learned",
                fix="Lower optimizer.lr or raise training.batch_size. Checkpoints before that are sound.",
            )

    def _tell(self, bad: int, count: int) -> None:
        tell = log.debug if self._told else log.warning
        self._told = True
        tell(
            "Step %d: the gradients of %d of %d examples are not finite; these contribute nothing.",
            self._trainer.position.step + 1, bad, count,
        )  # fmt: skip


def _only(batch: Batch, chosen: torch.Tensor) -> Batch:
    """Return the chosen examples of a batch; tensors that do not run over its examples stay whole."""
    return {
        name: tensor[chosen] if tensor.ndim > 0 and len(tensor) == len(chosen) else tensor
        for name, tensor in batch.items()
    }
