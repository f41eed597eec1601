"""How losses become a gradient and a gradient becomes a step."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from accelerate import Accelerator

__all__ = ["AcceleratedUpdate", "DirectUpdate", "Update", "Word", "new_update"]

Word = tuple[torch.Tensor, torch.Tensor]
"""A trained number that is none of the model's, and the gradient that it is to get."""

# Whole parameters, on devices where torch's own clipping uses these operations on lists of tensors too.
_FOREACH_KINDS = {(torch.nn.Parameter, "cpu"), (torch.nn.Parameter, "cuda")}


class Update(Protocol):
    """Backward pass, clipping and optimizer step."""

    def backward(self, values: torch.Tensor, scale: torch.Tensor | float, word: Word | None = None) -> None:
        """Add the gradient of sum(values * scale) to the parameters' gradients.

        Args:
            values: losses, shape (B,).
            scale: one factor for all, or one each, shape (B,).
            word: goes the same way, where the layout has a mark (see `Agreement`).
        """
        ...

    def finish(self, *, want_norm: bool) -> torch.Tensor | None:
        """Make the gradient the one to step with; returns its 2-norm, before clipping, where it was computed."""
        ...

    def is_sound(self, norm: torch.Tensor | None) -> bool:
        """Return whether the gradient may be used; waits for the device."""
        ...

    def step(self) -> None:
        """Take the optimizer step and clear the gradients."""
        ...

    def clear(self) -> None:
        """Forget the gradients."""
        ...


class DirectUpdate:
    """torch alone: for full precision and bfloat16, on one device or under DDP.

    `Accelerator.backward` and `AcceleratedOptimizer.step` cost about 200 microseconds a step in look-ups that only loss
    scaling needs.

    Args:
        optimizer: torch's own.
        max_norm: clip to this norm, or None.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_norm: float | None) -> None:
        self._optimizer, self._max_norm = optimizer, max_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        kinds = {(type(p), p.device.type, p.device.index, p.dtype) for p in self._parameters}
        self._alike = len(kinds) == 1 and kinds.pop()[:2] in _FOREACH_KINDS
        self._scales: dict[tuple[int, float], torch.Tensor] = {}

    def backward(self, values: torch.Tensor, scale: torch.Tensor | float, word: Word | None = None) -> None:
        """Add to the gradients. The scale enters as the gradient of the losses, which saves a sum and a product."""
        if isinstance(scale, float):
            scale = self._filled(values, scale)
        if word is None:
            torch.autograd.backward((values,), (scale,))
        else:
            # A pass of its own would cost as much as a small message.
            torch.autograd.backward((values, word[0]), (scale, word[1]))

    def _filled(self, values: torch.Tensor, scale: float) -> torch.Tensor:
        """Return a tensor like `values` filled with `scale`; windows of one size share it."""
        key = (len(values), scale)
        filled = self._scales.get(key)
        if filled is None:
            if len(self._scales) >= 64:
                self._scales.clear()
            filled = self._scales[key] = torch.full_like(values, scale)
        return filled

    def finish(self, *, want_norm: bool) -> torch.Tensor | None:
        """Clip, where a norm is configured."""
        if self._max_norm is None and not want_norm:
            return None
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = self._total_norm(gradients)
        if self._max_norm is not None and not self._surely_below(norm, self._max_norm):
            self._scale_down(gradients, self._max_norm, norm)
        return norm

    def is_sound(self, norm: torch.Tensor | None) -> bool:
        """Return whether the gradient is finite, as far as it is known."""
        return norm is None or math.isfinite(norm.item())

    def step(self) -> None:
        """Take the step."""
        self._optimizer.step()
        self.clear()

    def clear(self) -> None:
        """Free the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    # torch.nn.utils first sorts gradients by device and type, for longer than a small model needs for the rest. Where
    # all are alike the same operations without it give the same bits.

    def _total_norm(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        if not self._alike or not gradients:
            return torch.nn.utils.get_total_norm(gradients)
        norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)), 2.0)
        return norm

    def _scale_down(self, gradients: list[torch.Tensor], max_norm: float, norm: torch.Tensor) -> None:
        if self._alike and gradients:
            torch._foreach_mul_(gradients, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
        else:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, max_norm, norm)

    @staticmethod
    def _surely_below(norm: torch.Tensor, max_norm: float) -> bool:
        """Return whether clipping would multiply by exactly 1: known without waiting on a CPU only."""
        return norm.device.type == "cpu" and norm.item() * (1 + 1e-5) + 1e-5 < max_norm


class AcceleratedUpdate:
    """Accelerate's own backward, clipping and step: for loss scaling (float16).

    Args:
        accelerator: the Accelerator that prepared model and optimizer.
        optimizer: the prepared optimizer.
        max_norm: clip to this norm, or None.
    """

    def __init__(self, accelerator: Accelerator, optimizer: Any, max_norm: float | None) -> None:
        self._accelerator, self._optimizer, self._max_norm = accelerator, optimizer, max_norm
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def backward(self, values: torch.Tensor, scale: torch.Tensor | float, word: Word | None = None) -> None:
        """Add to the gradients, scaled."""
        if word is not None:
            torch.autograd.backward((word[0],), (word[1],))
        self._accelerator.backward((values * scale).sum())

    def finish(self, *, want_norm: bool) -> torch.Tensor | None:
        """Unscale and clip."""
        if self._max_norm is None and not want_norm:
            return None
        limit = self._max_norm if self._max_norm is not None else float("inf")
        norm: torch.Tensor | None = self._accelerator.clip_grad_norm_(self._parameters, limit)
        return norm

    def is_sound(self, norm: torch.Tensor | None) -> bool:
        """Return True: a gradient that overflows belongs to loss scaling, which leaves out its step itself."""
        return True

    def step(self) -> None:
        """Take the step, unless a gradient overflowed."""
        self._optimizer.step()
        self.clear()

    def clear(self) -> None:
        """Free the gradients."""
        self._optimizer.zero_grad()


def new_update(
    accelerator: Accelerator, optimizer: torch.optim.Optimizer, prepared: Any, max_norm: float | None
) -> tuple[torch.optim.Optimizer, Update]:
    """Return the optimizer whose groups and state count, and the cheapest update that is right for it."""
    if accelerator.scaler is not None:
        return prepared, AcceleratedUpdate(accelerator, prepared, max_norm)
    return optimizer, DirectUpdate(optimizer, max_norm)
