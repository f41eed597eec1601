"""Whether the losses and the gradient of a step are finite, seen before they reach the weights."""

from __future__ import annotations

import math

import torch

__all__ = ["FiniteWatch"]


class FiniteWatch:
    """Watches the losses of each step.

    Where reading a value costs nothing, on a CPU, or has to be, among several processes, a bad loss is known before the
    optimizer step. Reading on a GPU would stall the device each step: unless asked to, the flag of each step stays
    there, and all are read at log points and before each save.

    Args:
        device: where the losses are.
        immediate: whether losses are read each step.
        num_steps: at most so many steps lie between two calls of `first_bad_step`.

    Attributes:
        bad: a loss of this step is not finite. In the other mode it stays False.
        examples: which ones: (number of the microbatch, place in it), both from 0.
    """

    def __init__(self, device: torch.device, *, immediate: bool, num_steps: int) -> None:
        self.immediate = immediate
        self.bad = False
        self.examples: list[tuple[int, int]] = []
        self._flags = torch.zeros(num_steps, dtype=torch.bool, device=device)
        self._read = 0

    def begin_step(self) -> None:
        """Forget the step before."""
        self.bad = False
        self.examples.clear()

    def watch(self, values: torch.Tensor, *, step: int, microbatch: int) -> bool:
        """Take in the losses of a microbatch, shape (B,); returns whether they are known to be bad."""
        if not self.immediate:
            self._flags[step % len(self._flags)] |= ~torch.isfinite(values.detach().sum())
            return False
        read = values.tolist()
        if math.isfinite(sum(read)):
            return False
        self.bad = True
        self.examples += [(microbatch, place) for place, value in enumerate(read) if not math.isfinite(value)]
        return True

    def first_bad_step(self, steps: int) -> int | None:
        """Return the first of the steps since the last call that had a bad loss; waits for the device.

        Args:
            steps: optimizer steps done.
        """
        first, self._read = self._read, steps
        if self.immediate:
            return None
        flags = self._flags.tolist()
        self._flags.zero_()
        newest = range(max(first, steps - len(flags)), steps)
        return next((step for step in newest if flags[step % len(flags)]), None)
