"""How the weights of a model lie on the processes of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn

from mltrain.checkpoints.parts import Place
from mltrain.core.errors import ConfigError
from mltrain.trainers.agreement import add_mark
from mltrain.trainers.updates import Update, new_update

__all__ = ["Layout", "refuse_scalars"]


class Layout:
    """Whole weights on each process: one device, or several that DDP keeps equal.

    Class attributes:
        exchanges_weights: forward passes do, so that all processes must do the same number of them.
        division: what divides the weights, for people; None: nothing.

    Args:
        accelerator: of the run.

    Attributes:
        mark: a number that is exchanged with the gradients, once a model is prepared; None: none is.
    """

    exchanges_weights: ClassVar[bool] = False
    division: ClassVar[str | None] = None

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._is_main: bool = accelerator.is_main_process
        self.mark: nn.Parameter | None = None

    @property
    def writers(self) -> int:
        """How many processes write a part of each checkpoint: the first so many."""
        return 1

    @property
    def autocast(self) -> Callable[[], AbstractContextManager[Any]]:
        """What forward passes run in."""
        return nullcontext if self._accelerator.mixed_precision == "no" else self._accelerator.autocast

    def place(self, model: nn.Module) -> nn.Module:
        """Return a new model, on the host so far, as it lies on the processes from now on."""
        return model.to(self._accelerator.device)

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None
    ) -> tuple[nn.Module, torch.optim.Optimizer, Update]:
        """Return the model as it is called, the optimizer whose state counts, and how steps are taken.

        Args:
            model: from `place`; it stays the one whose parameters are trained.
            optimizer: of the model.
            max_norm: clip gradients to this 2-norm, or None.
        """
        prepared_optimizer = self._accelerator.prepare(optimizer)
        if self._accelerator.num_processes > 1 and self._accelerator.device.type == "cpu":
            prepared_model, self.mark = add_mark(model, self._accelerator.prepare)
        else:
            prepared_model = self._accelerator.prepare(model)
        return prepared_model, *new_update(self._accelerator, optimizer, prepared_optimizer, max_norm)

    def more_to_come(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return the block for a microbatch that is not the window's last: its gradients need not be exchanged yet.

        Args:
            model: as it is called.
        """
        block: AbstractContextManager[None] = self._accelerator.no_sync(model)
        return block

    def size_of(self, parameter: nn.Parameter) -> int:
        """Return how many elements a parameter has on all processes together."""
        return parameter.numel()

    def forget_gathered(self, model: nn.Module) -> None:
        """Drop weights that a forward pass without a backward pass has gathered: they would not see later changes."""

    def own(self, tensors: Mapping[str, torch.Tensor]) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Place]]:
        """Return what this process, one of the `writers`, writes of a state, and the places of what are parts."""
        return tensors, {}

    def whole_state(self, model: nn.Module) -> dict[str, torch.Tensor] | None:
        """Return a model's state dict in whole tensors, or None on processes that need not have it.

        Every process must call it; the main one has it in any case.
        """
        return model.state_dict()


def refuse_scalars(model: nn.Module, division: str | None) -> None:
    """Raise ConfigError for a parameter that has no dimension to divide it by.

    Args:
        model: whole.
        division: what would divide it, for people.
    """
    for place, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise ConfigError(
                f"{place} is a parameter without a dimension, which {division} cannot divide",
                where="model",
                fix="Make it one of shape (1,), or launch DDP.",
            )
