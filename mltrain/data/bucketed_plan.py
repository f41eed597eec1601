"""A plan whose windows hold samples of similar length, so that less of a batch is padding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mltrain.core.seeding import mix, permutation, stream_key

__all__ = ["BucketedPlan"]

Indices = NDArray[np.int64]

# Windows that are sorted together. More make the lengths within a window more alike, and the same samples meet more
# often; a hundred leave a spread of about a hundredth of all lengths in each.
_POOL = 100


class BucketedPlan:
    """Every sample once an epoch, in windows of similar length, which come in random order.

    As that of `ShuffledPlan` the order depends on (seed, epoch) and the lengths alone, and only the last window of an
    epoch may be short. The samples are shuffled; each run of as many as fill `_POOL` windows is sorted by length and
    cut into windows; then the windows are shuffled. What does not fill a window is not sorted and comes last.

    Args:
        lengths: of each sample of the training split.
        window_size: samples of a full window, over all ranks (G).
        seed: the run's seed.
    """

    def __init__(self, lengths: Sequence[int] | NDArray[np.integer], window_size: int, seed: int) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self.num_samples, self.window_size = len(self._lengths), window_size
        self._samples_key, self._windows_key = stream_key(seed, "sample order"), stream_key(seed, "window order")
        self._drawn: tuple[int, Indices] | None = None

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows of each epoch."""
        return math.ceil(self.num_samples / self.window_size)

    def window(self, epoch: int, index: int) -> Indices:
        """Return the sample indices of a window, shape (n,), 0 < n <= window_size, from the shortest to the longest."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, self._order(epoch))
        return self._drawn[1][index * self.window_size : (index + 1) * self.window_size]

    def _order(self, epoch: int) -> Indices:
        order = permutation(mix(self._samples_key, epoch), self.num_samples)
        full = self.num_samples // self.window_size
        body = order[: full * self.window_size]
        for start in range(0, len(body), _POOL * self.window_size):
            pool = body[start : start + _POOL * self.window_size]
            pool[:] = pool[np.argsort(self._lengths[pool], kind="stable")]
        windows = body.reshape(full, self.window_size)[permutation(mix(self._windows_key, epoch), full)]
        return np.concatenate([windows.reshape(-1), order[len(body) :]])
