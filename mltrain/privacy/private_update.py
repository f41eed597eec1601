"""From losses of examples to a private optimizer step: clip each, add up, add noise, divide, step.

Abadi et al. 2016, "Deep Learning with Differential Privacy" (DP-SGD), under any optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.noise import NoiseSource

__all__ = ["PrivateUpdate"]


class PrivateUpdate:
    """Backward pass, noise and optimizer step, for one window after the other.

    Args:
        gradients: clips the gradients of the model's examples.
        optimizer: torch's own, over the same parameters.
        noise: where this rank's noise comes from; None: another rank adds it.
        noise_multiplier: standard deviation of the noise, over `max_grad_norm`.
        max_grad_norm: what one example may contribute (C).
        batch_size: what the noisy sum is divided by (B): as configured, never what a window happens to hold.
        exchange: adds up a tensor over all ranks, in place; None: this is the only one.
    """

    def __init__(
        self,
        gradients: ClippedGradients,
        optimizer: torch.optim.Optimizer,
        noise: NoiseSource | None,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        batch_size: int,
        exchange: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        self.gradients, self.noise = gradients, noise
        self._optimizer, self._exchange = optimizer, exchange
        self._deviation, self._batch_size = noise_multiplier * max_grad_norm, batch_size

    def add(self, losses: torch.Tensor) -> torch.Tensor:
        """Add the clipped gradients of a microbatch.

        Args:
            losses: one for each example, shape (b,).

        Returns:
            The 2-norm of each gradient before it was clipped, shape (b,). Those that are not finite add nothing.
        """
        return self.gradients.add(losses)

    def backward(self, values: torch.Tensor, scale: torch.Tensor | float, word: object = None) -> None:
        """Do `add`; no scale applies, as the sum is divided by the configured batch size, and no word goes with it."""
        self.add(values)

    def finish(self, *, want_norm: bool) -> torch.Tensor | None:
        """Make the noisy mean of the window the parameters' gradient; returns its 2-norm where that is wanted.

        The norm is private, as everything is that is computed from the noisy gradient alone.
        """
        sums = self.gradients.sums
        flat = torch.cat([tensor.reshape(-1) for tensor in sums])
        if self.noise is not None and self._deviation > 0:
            flat.add_(self.noise.draw(len(flat)).to(flat.device), alpha=self._deviation)
        if self._exchange is not None:
            self._exchange(flat)
        flat.div_(self._batch_size)
        gradients = torch.split(flat, [tensor.numel() for tensor in sums])
        for parameter, gradient in zip(self.gradients.parameters, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return torch.linalg.vector_norm(flat) if want_norm else None

    def is_sound(self, norm: torch.Tensor | None) -> bool:
        """Return whether the noisy gradient is finite, as far as it is known."""
        return norm is None or math.isfinite(norm.item())

    def step(self) -> None:
        """Take the optimizer step and forget the window."""
        self._optimizer.step()
        self.clear()

    def clear(self) -> None:
        """Forget the window."""
        self.gradients.clear()
        for parameter in self.gradients.parameters:
            parameter.grad = None
