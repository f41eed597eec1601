"""Losses that depend on what a sample is collated with: found by collating samples alone, and refused.

Padding to the longest sample of a batch is the usual case: where the model does not mask it, one long sample moves the
losses, and so the clipped gradients, of all others. Replacing rows of a batch that is already padded cannot show that.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.logging import log
from mltrain.data.batches import collated
from mltrain.privacy.probing import buffers_put_back, left_as_it_was, seed_all, shares_moved

if TYPE_CHECKING:
    from mltrain.tasks.base import Task

__all__ = ["refuse_coupled_collation"]

_TOLERANCE = 1e-3  # of the mean size of the losses: other shapes round otherwise
_LEAST_SCALE = 1e-3  # losses near 0 are differences of larger numbers, whose rounding stays
_MASK = "Mask the padding in the model, or collate so that a sample's tensors do not depend on the others of its batch."
_FAILURES = (MltrainError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, AssertionError)


def refuse_coupled_collation(task: Task, model: nn.Module, items: list[Any], *, device: torch.device) -> None:
    """Raise ConfigError where a sample's loss depends on the samples that it is collated with.

    The losses of the batch of all items are compared with those of each item alone, in evaluation mode; of each half
    where an item alone cannot be computed. What cannot be seen: a coupling by a property that all items share, such
    as their length, and anything at all where losses are drawn at random, which is told. So the items should be
    spread over the data.

    Args:
        task: collates and gives the losses.
        model: not wrapped and without hooks; its buffers and modes are as before afterwards, as are all generators.
        items: samples of a data set, as `collate` takes them; they stay as they are.
        device: where the model is.
    """
    with left_as_it_was(model, device, training=False):
        _Collations(task, model, items, device).run()


class _Collations:
    """Compares the losses of the same samples in different batches."""

    def __init__(self, task: Task, model: nn.Module, items: list[Any], device: torch.device) -> None:
        self._task, self._model, self._items, self._device = task, model, items, device

    def run(self) -> None:
        """Raise ConfigError for losses that depend on the batch."""
        count = len(self._items)
        if count < 2:
            log.warning("Whether the losses depend on what samples are collated with could not be checked: too few.")
            return
        together = self._losses(0, count)
        # Of draws, the same seeds give other ones to other batches.
        other_draws = shares_moved(together, self._losses(0, count, draws=1), least_scale=_LEAST_SCALE)
        if (other_draws > _TOLERANCE / 10).any():
            log.warning(
                "Whether the losses depend on what samples are collated with could not be checked: they are drawn at "
                "random, also in evaluation mode."
            )
            return
        if self._compare_each(together):
            return
        if count < 4:
            log.warning(
                "Whether the losses depend on what samples are collated with could not be checked: a batch of one "
                "cannot be computed, and there are only %d samples.",
                count,
            )
            return
        for first, end in ((0, count // 2), (count // 2, count)):
            self._compare(together, first, self._losses(first, end))

    def _compare_each(self, together: Tensor) -> bool:
        """Return whether every sample could be computed alone."""
        all_computed = True
        for index in range(len(self._items)):
            try:
                alone = self._losses(index, index + 1)
            except _FAILURES as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                log.debug("A batch of sample %d alone could not be tried: %s", index, error)
                all_computed = False
                continue
            self._compare(together, index, alone)
        return all_computed

    def _compare(self, together: Tensor, first: int, apart: Tensor) -> None:
        expected = together.clone()
        expected[first : first + len(apart)] = apart
        shares = shares_moved(together, expected, least_scale=_LEAST_SCALE)
        worst = int(shares.argmax())
        if shares[worst] > _TOLERANCE:
            others = "alone" if len(apart) == 1 else f"in a batch of {len(apart)}"
            before, after = float(expected[worst]), float(together[worst])
            raise ConfigError(
                f"the loss of one sample is {before:.6g} {others} and {after:.6g} when it is collated with "
                f"{len(together) - 1} others: clipping does not bound what one sample adds to a step of the dp trainer",
                where="task",
                fix=_MASK,
            )

    def _losses(self, first: int, end: int, *, draws: int = 0) -> Tensor:
        """Return the losses of the batch of some items, float64, on the host."""
        seed_all(draws)
        # A collate may take its items apart.
        items = copy.deepcopy(self._items[first:end])
        batch = {name: tensor.to(self._device) for name, tensor in collated(items, self._task.collate).items()}
        with buffers_put_back(self._model):
            losses = self._task.losses(self._model, batch).values.detach().double().cpu()
        if len(losses) != end - first:
            raise ConfigError(
                f"gives {len(losses)} losses for {end - first} samples",
                where="task",
                fix="Give one loss for each sample: clipping bounds what one loss adds.",
            )
        return losses
