"""Losses of each example: how far predicted voxels and reconstructed stimuli are from what was measured and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["FMRI_LOSSES", "correlation_loss", "reconstruction_error", "subject_means"]

_LEAST = 1e-6


def reconstruction_error(found: Tensor, shown: Tensor) -> Tensor:
    """Return the mean squared error of each example, (B,), over all that it holds."""
    return (found.float() - shown).square().flatten(1).mean(1)


def squared_error(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return the mean squared error over voxels (B, V), (B,)."""
    return (predicted - measured).square().mean(1)


def absolute_error(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return the mean absolute error over voxels (B, V), (B,)."""
    return (predicted - measured).abs().mean(1)


def correlation_loss(predicted: Tensor, measured: Tensor) -> Tensor:
    """Return 1 - r, (B,): Pearson's correlation over the voxels (B, V) of one example, not over time.

    It depends on its own example alone. Where either side does not vary, r counts as 0.
    """
    one, other = (values - values.mean(1, keepdim=True) for values in (predicted, measured))
    spread = one.square().sum(1).clamp_min(_LEAST).sqrt() * other.square().sum(1).clamp_min(_LEAST).sqrt()
    return 1 - (one * other).sum(1) / spread


FMRI_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": squared_error,
    "mae": absolute_error,
    "correlation": correlation_loss,
}


def subject_means(
    loss: Callable[[Tensor, Tensor], Tensor], predicted: Tensor, measured: Tensor, voxels: Sequence[int]
) -> Tensor:
    """Return the mean over subjects of a loss, (B,): each counts the same, however many voxels it has.

    Args:
        loss: voxels of one subject, predicted and measured (B, V) -> (B,).
        predicted, measured: (B, sum of voxels), the subjects in a row.
        voxels: of each subject.
    """
    sizes = list(voxels)
    pairs = zip(torch.split(predicted.float(), sizes, 1), torch.split(measured, sizes, 1), strict=True)
    return torch.stack([loss(*pair) for pair in pairs]).mean(0)
