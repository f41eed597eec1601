"""A loss that is not finite is seen before it reaches the weights, or at the latest before they are saved."""

from __future__ import annotations

import math

import torch

from mltrain.core.errors import MltrainError
from mltrain.data.plan import Position

__all__ = ["FiniteWatch", "NonFiniteLossError"]


class NonFiniteLossError(MltrainError):
    """The loss became NaN or infinite."""


class FiniteWatch:
    """Watches the losses of each step.

    On a CPU reading a value costs nothing, so a bad loss stops the run before the optimizer step. On a GPU reading
    would stall the device each step: the flag stays there, and is read at log points and before each save.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._immediate = device, device.type == "cpu"
        self._flag = torch.zeros((), dtype=torch.bool, device=device)
        self.bad = False

    def watch(self, values: torch.Tensor) -> None:
        """Take in the losses of a microbatch."""
        if self._immediate:
            self.bad = self.bad or not math.isfinite(sum(values.tolist()))
        else:
            self._flag |= ~torch.isfinite(values.detach().sum())

    def check(self, position: Position, *, wait: bool = False) -> None:
        """Raise NonFiniteLossError if a bad loss was seen; `wait` reads the device first."""
        if wait and not self._immediate:
            self.bad = self.bad or bool(self._flag)
        if self.bad:
            when = "in" if self._immediate else "in or shortly before"
            raise NonFiniteLossError(
                f"the loss is not finite {when} step {position.step + 1} (epoch {position.epoch + 1}, "
                f"window {position.window + 1})",
                fix="Lower optimizer.lr, add warm-up or set training.max_grad_norm. Saved checkpoints are sound.",
            )
