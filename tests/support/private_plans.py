"""Plans whose draws a test knows: the same for one process and for two, or nothing at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mltrain.privacy.poisson_plan import PoissonPlan

__all__ = ["EmptyPlan", "GivenPlan"]

_KEY = bytes(range(32))


class GivenPlan(PoissonPlan):
    """The draws of one process, whatever the number of them.

    Every fourth window has even samples alone, so that the second of two ranks has none; every seventh is empty.
    """

    def window(self, epoch: int, index: int) -> NDArray[np.int64]:
        """Return this rank's part of a window."""
        step = epoch * self.windows_per_epoch + index
        whole = PoissonPlan(self.num_samples, self.batch_size, self.num_epochs, key=_KEY).window(epoch, index)
        if step % 7 == 6:
            whole = whole[:0]
        elif step % 4 == 3:
            whole = whole[whole % 2 == 0]
        return np.intersect1d(whole, self._own)


class EmptyPlan(PoissonPlan):
    """Draws nothing."""

    def window(self, epoch: int, index: int) -> NDArray[np.int64]:
        """Return an empty window."""
        return np.empty(0, dtype=np.int64)
