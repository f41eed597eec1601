"""Losses that depend on other examples: found by replacing one example, and refused.

Clipping bounds what one example adds to a step. That holds only where its loss, and so its gradient, is a function of
this example alone: a mean weighted by the classes of a batch, batch normalization or a loss for pairs lets one example
move the clipped gradients of all others as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.logging import log
from mltrain.data.batches import Batch
from mltrain.privacy.probing import (
    buffers_put_back,
    changed_buffers,
    copied_buffers,
    left_as_it_was,
    seed_all,
    shares_moved,
)

if TYPE_CHECKING:
    from mltrain.tasks.base import Task

__all__ = ["refuse_coupled", "refuse_coupled_task"]

_TOLERANCE = 1e-4  # of the mean size of the losses; alike shapes and draws leave 0, or the last bit
_MOST_ROWS = 4
_ALONE = "Compute each loss from its own example: no mean over the batch, no weights or statistics of its labels."
_FIXED = "Compute such statistics beforehand of public data, or leave the buffer as it is in training."
_LAYERS = "Use layers that see each example by itself, such as GroupNorm or LayerNorm."


def refuse_coupled_task(task: Task) -> None:
    """Raise ConfigError where a task says itself that it combines examples."""
    if task.group_size > 1:
        transforms = getattr(getattr(task.config.data, "transforms", None), "train", None)
        used = [name for name in ("mixup", "cutmix") if getattr(transforms, name, None) is not None]
        raise ConfigError(
            f"puts each sample into the losses of {task.group_size}, so that clipping does not bound what one adds",
            where=f"data.transforms.train.{used[0]}" if used else "task",
            fix="Leave it out with the dp trainer." if used else "Use a task that takes samples one by one.",
        )
    # The first definition, of the base of all tasks, is the only one that leaves all examples alike.
    if sum("example_weights" in vars(kind) for kind in type(task).__mro__) > 1:
        raise ConfigError(
            f"{task.config.task} weighs its examples, and a step divides by the sum of all weights in it: each example "
            "changes what the others add",
            where="task",
            fix="Use a task whose examples count alike with the dp trainer.",
        )


def refuse_coupled(task: Task, model: nn.Module, batch: Batch, *, device: torch.device) -> None:
    """Raise ConfigError where an example's loss, or its gradient, depends on other examples; or a buffer on any.

    One example is replaced by another one of the batch, in all tensors and in one tensor at a time, and the losses of
    those that were left alone must stay what they were, as must the buffers of the model, which get no noise: neither
    running means nor counts of labels. Draws such as those of dropout are the same each time. What cannot be seen: a
    coupling that none of the replacements moves by a ten-thousandth of the losses, and anything at all where the
    examples of the batch are equal, which is told. So the examples should be spread over the data, which may be sorted
    by its labels: 4 to 8 of different ones.

    Args:
        task: gives the losses.
        model: not wrapped and without hooks; its buffers and modes are as before afterwards, as are all generators.
        batch: tensors whose first dimension is that of the examples; others are left as they are.
        device: where the model is.
    """
    with left_as_it_was(model, device, training=True):
        _Probe(task, model, {name: tensor.to(device) for name, tensor in batch.items()}).run()


@dataclass(frozen=True)
class _Seen:
    """What the task gave.

    losses: (B,), float64.
    outputs: those of the model, float64, where they are a tensor (B, ...).
    buffers: by name, as the forward pass left them.
    """

    losses: Tensor
    outputs: Tensor | None
    buffers: dict[str, Tensor]


class _Probe:
    """Compares the losses of batches that differ in one example."""

    def __init__(self, task: Task, model: nn.Module, batch: Batch) -> None:
        self._task, self._model, self._batch = task, model, batch
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def run(self) -> None:
        """Raise ConfigError for a coupled loss."""
        usual = self._see(self._batch)
        names = self._names_of_examples(len(usual.losses))
        self._check_draws(usual, self._see(self._batch))
        replacements = list(self._replacements(names))
        if not replacements:
            log.warning(
                "Whether the losses depend on one another could not be checked: the batch has one example, or equal "
                "ones."
            )
            return
        # One tensor at a time comes first: it says more, and finds what whole examples hide.
        for name in names if len(names) > 1 else []:
            for row, replaced in [*self._replacements([name])] or self._with_another_class(name):
                self._compare(usual, row, replaced, name, may_fail=True)
        for row, replaced in replacements:
            self._compare(usual, row, replaced, " and ".join(names))
        self._compare_gradients(*replacements[0])

    def _see(self, batch: Batch) -> _Seen:
        """Return what the task makes of a batch, with the draws and buffers that every batch gets."""
        with self._alike():
            found = self._task.losses(self._model, batch)
            outputs = found.outputs
            is_tensor = isinstance(outputs, Tensor) and outputs.ndim > 0 and len(outputs) == len(found.values)
            return _Seen(
                found.values.detach().double(),
                outputs.detach().double() if is_tensor else None,
                copied_buffers(self._model),
            )

    def _gradient(self, batch: Batch, *, but: int) -> Tensor:
        """Return the gradient of the sum of all losses but one, of all parameters in a row, float64."""
        with self._alike():
            losses = self._task.losses(self._model, batch).values
            if not self._parameters or not losses.requires_grad:
                return torch.zeros(1)
            kept = torch.arange(len(losses), device=losses.device) != but
            found = torch.autograd.grad(losses[kept].sum(), self._parameters, allow_unused=True)
            return torch.cat([torch.zeros(1) if part is None else part.double().flatten().cpu() for part in found])

    @contextmanager
    def _alike(self) -> Iterator[None]:
        seed_all()
        with buffers_put_back(self._model):
            yield

    def _names_of_examples(self, count: int) -> list[str]:
        names = [name for name, tensor in self._batch.items() if tensor.ndim > 0 and len(tensor) == count]
        if names:
            return names
        sizes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in self._batch.items())
        raise ConfigError(f"gives {count} losses for a batch of {sizes}", where="task", fix=_ALONE)

    def _check_draws(self, usual: _Seen, again: _Seen) -> None:
        if (shares_moved(usual.losses, again.losses) > _TOLERANCE).any():
            raise ConfigError(
                "the losses of one batch differ when they are computed twice with the same seeds, so it cannot be "
                "checked whether they depend on one another",
                where="task",
                fix="Draw from the generators of random, numpy.random and torch that are global.",
            )

    def _replacements(self, names: list[str]) -> Iterator[tuple[int, Batch]]:
        """Yield (example, batch in which it is replaced by the next one that differs), for some examples."""
        count, given = len(self._batch[names[0]]), 0
        for row in range(count):
            others = ((row + step) % count for step in range(1, count))
            other = next((other for other in others if any(self._differs(name, row, other) for name in names)), None)
            if other is None:
                continue
            changed = dict(self._batch)
            for name in names:
                changed[name] = self._batch[name].clone()
                changed[name][row] = self._batch[name][other]
            yield row, changed
            given += 1
            if given == _MOST_ROWS:
                return

    def _with_another_class(self, name: str) -> list[tuple[int, Batch]]:
        """Return a replacement in a tensor of one whole number for each example, where all of them are the same."""
        tensor = self._batch[name]
        # A GPU does not survive a class that there is not.
        if tensor.ndim != 1 or tensor.is_floating_point() or tensor.device.type != "cpu":
            return []
        changed = tensor.clone()
        changed[0] = 0 if int(tensor[0]) else 1
        return [(0, self._batch | {name: changed})]

    def _differs(self, name: str, row: int, other: int) -> bool:
        tensor = self._batch[name]
        return not torch.equal(tensor[row], tensor[other])

    def _compare(self, usual: _Seen, row: int, replaced: Batch, what: str, *, may_fail: bool = False) -> None:
        """Raise ConfigError where a buffer has moved, or a loss whose example was left alone."""
        try:
            seen = self._see(replaced)
        except (MltrainError, RuntimeError, ValueError, LookupError) as error:
            if not may_fail or isinstance(error, torch.OutOfMemoryError):
                raise
            # Tensors of two examples need not go together, such as a mask and what it covers.
            log.debug("A batch with another %s of example %d could not be tried: %s", what, row, error)
            return
        shares = shares_moved(usual.losses, seen.losses)
        shares[row] = 0.0
        worst = int(shares.argmax())
        if shares[worst] > _TOLERANCE:
            before, after = float(usual.losses[worst]), float(seen.losses[worst])
            raise _coupled(
                f"the loss of one example moves from {before:.6g} to {after:.6g} with {what} of another one",
                by_model=_rows_moved(usual.outputs, seen.outputs, but=row),
            )
        for name in changed_buffers(usual.buffers, seen.buffers):
            raise ConfigError(
                f"the buffer {name!r} is computed from the examples, without noise: the saved model would tell of "
                "them what the statement of privacy does not cover",
                where="model",
                fix=_FIXED,
            )

    def _compare_gradients(self, row: int, replaced: Batch) -> None:
        """Raise ConfigError where the gradient of the losses of those left alone has moved, though the losses did not.

        A term that is 0 in value, such as m - m.detach(), has a gradient all the same.
        """
        before, after = self._gradient(self._batch, but=row), self._gradient(replaced, but=row)
        share = float((before - after).norm()) / max(float(before.norm()), 1e-6)
        if share > _TOLERANCE:
            raise _coupled(
                f"the gradient of the examples' losses moves by {share:.2g} of itself with another example, though the "
                "losses stay the same",
                by_model=False,
            )


def _coupled(what: str, *, by_model: bool) -> ConfigError:
    reason = "clipping does not bound what one example adds to a step of the dp trainer"
    where, fix = ("model", _LAYERS) if by_model else ("task", _ALONE)
    return ConfigError(f"{what}: {reason}", where=where, fix=fix)


def _rows_moved(before: Tensor | None, after: Tensor | None, *, but: int) -> bool:
    """Return whether the outputs of an example that was left alone have moved."""
    if before is None or after is None or before.shape != after.shape:
        return False
    change = (before - after).abs().reshape(len(before), -1).amax(dim=1)
    change[but] = 0.0
    return bool(change.max() > _TOLERANCE * max(float(before.abs().mean()), 1e-6))
