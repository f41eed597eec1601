"""Whether the examples' gradients add up to the whole gradient: weights may be used where no layer sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.privacy.clipping import ClippedGradients

__all__ = ["refuse_incomplete", "unchanged"]

# Rounding is far below, a use that is missed is far above.
_TOLERANCE = 1e-2


def refuse_incomplete(model: nn.Module, losses_of: Callable[[], Tensor], mode: Literal["ghost", "hooks"]) -> None:
    """Compare the sum of examples' gradients, not clipped, with the gradient of the sum of losses.

    Args:
        model: in training mode; stays as it is.
        losses_of: does a forward pass and returns the losses of a microbatch, shape (B,).
        mode: of `ClippedGradients`.

    Raises:
        ConfigError: a parameter gets another gradient than it should.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with unchanged(model):
        torch.manual_seed(0)
        whole = torch.autograd.grad(losses_of().sum(), list(trained.values()), allow_unused=True)
    with unchanged(model):
        torch.manual_seed(0)
        clipped = ClippedGradients(model, float("inf"), mode)
        try:
            clipped.add(losses_of())
            sums = [total.clone() for total in clipped.sums]
        finally:
            clipped.close()
    length = torch.stack([total.norm() for total in sums]).norm()
    for name, total, expected in zip(trained, sums, whole, strict=True):
        difference = (total if expected is None else total - expected).norm()
        if difference > _TOLERANCE * max(float(length), 1e-12):
            raise ConfigError(
                f"the examples' gradients of {name} do not add up to its gradient: it is used outside of its layer",
                where="model.architecture",
                fix="Use another model, or freeze this parameter.",
            )


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put back gradients, buffers and torch's generators afterwards."""
    gradients = [parameter.grad for parameter in model.parameters()]
    buffers = [buffer.clone() for buffer in model.buffers()]
    with torch.random.fork_rng():
        try:
            yield
        finally:
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            with torch.no_grad():
                for buffer, before in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(before)
