"""How large microbatches are: as configured, or smaller from when memory did not suffice for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltrain.data.plan import Cut

__all__ = ["Microbatches"]


class Microbatches:
    """The cut of windows on a rank. Another size is another cut of the same windows: the gradient stays the same.

    Args:
        rank, processes: this process and how many there are.
        batch_size: as configured.
        group_size: neighbours of a window that no cut separates.
        in_step: every rank gets as many as the others.
    """

    def __init__(self, rank: int, processes: int, batch_size: int, group_size: int, *, in_step: bool = False) -> None:
        self._rank, self._processes, self._group_size, self._in_step = rank, processes, group_size, in_step
        self._configured = self.size = batch_size

    def cut(self) -> Cut:
        """Return how windows are cut."""
        return Cut(self._rank, self._processes, self.size, self._group_size, self._in_step)

    def make_smaller(self) -> bool:
        """Halve the microbatches, or divide them by the least number that leaves whole groups; False: it is the least.

        Every smaller size divides the larger: no example changes sides at a border between microbatches that were done.
        """
        groups = self.size // self._group_size
        divisor = next((number for number in range(2, groups + 1) if groups % number == 0), None)
        if divisor is None:
            return False
        self.size //= divisor
        return True

    def state(self) -> dict[str, int]:
        """Return the sizes, as JSON values."""
        return {"configured": self._configured, "size": self.size}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back the size that was found to fit, unless another one is configured since."""
        if state["configured"] == self._configured:
            self.size = state["size"]
