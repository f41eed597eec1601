"""Clipped gradients the slow way: one example at a time, plain autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

LossesOf = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, inputs, targets) -> losses (B,)."""


def cross_entropies(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    output = model(inputs)
    logits = output if isinstance(output, Tensor) else output.logits
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def clipped_sum_by_hand(
    model: nn.Module, inputs: Tensor, targets: Tensor, max_grad_norm: float, losses_of: LossesOf = cross_entropies
) -> tuple[list[Tensor], Tensor]:
    """Return the sums of each trainable parameter, and the norms (B,) before clipping."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    norms = []
    for index in range(len(inputs)):
        loss = losses_of(model, inputs[index : index + 1], targets[index : index + 1]).sum()
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        norm = torch.linalg.vector_norm(torch.stack([g.double().norm() for g in found if g is not None]))
        norms.append(norm)
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                total += gradient * (max_grad_norm / norm).clamp(max=1.0).to(gradient.dtype)
    return sums, torch.stack(norms)


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the 2-norm of the difference over all tensors, relative to that of what is expected."""
    difference = torch.cat([(a.double() - b.double()).flatten() for a, b in zip(found, expected, strict=True)])
    return float(difference.norm() / torch.cat([b.double().flatten() for b in expected]).norm())
