"""The plan of private training: every example is in every window with the same probability, independently.

Only for such draws does the privacy that Poisson subsampling amplifies hold. The number of steps and the probability
that the accountant counts with are attributes of the plan itself: there is no second place for them to differ.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from mltrain.privacy.noise import KEY_BYTES

__all__ = ["PoissonPlan"]

Indices = NDArray[np.int64]


class PoissonPlan:
    """The windows of one rank: a Poisson draw out of its own part of the samples. All ranks' together are one of all.

    The draws of a window are a function of a secret key and the window's place, so that a window that is cut anew holds
    the same samples; another key gives other draws.

    Args:
        num_samples: size of the training split (N).
        batch_size: samples that a window of all ranks holds on average (B), at most `num_samples`.
        num_epochs: epochs of `ceil(N / B)` windows each.
        rank, processes: this process and how many there are.
        key: 32 secret bytes of this rank and segment of the run; None takes them from the operating system.
        lengths: of each sample. Windows are cut into microbatches in their order, so that samples of similar length
            share one; what is drawn, and so the sum of clipped gradients, has nothing to do with them.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        num_epochs: int,
        *,
        rank: int = 0,
        processes: int = 1,
        key: bytes | None = None,
        lengths: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> None:
        if not 0 < batch_size <= num_samples:
            raise ValueError(f"windows of {batch_size} out of {num_samples} samples")
        self.num_samples, self.batch_size, self.num_epochs = num_samples, batch_size, num_epochs
        self._rank, self._processes = rank, processes
        self._lengths = None if lengths is None else np.asarray(lengths, dtype=np.int64)
        self._key = os.urandom(KEY_BYTES) if key is None else key
        # Rounded down: no sample may be drawn more often than is accounted for.
        self._threshold = (batch_size << 64) // num_samples

    @property
    def sample_rate(self) -> float:
        """Probability of each sample to be in a window (q = B / N)."""
        return self.batch_size / self.num_samples

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows of each epoch."""
        return math.ceil(self.num_samples / self.batch_size)

    @property
    def total_steps(self) -> int:
        """Number of windows of all epochs (T)."""
        return self.num_epochs * self.windows_per_epoch

    @cached_property
    def _own(self) -> Indices:
        """The samples that this rank draws from."""
        return np.arange(self._rank, self.num_samples, self._processes, dtype=np.int64)

    def window(self, epoch: int, index: int) -> Indices:
        """Return the sample indices of this rank's part of a window, shape (n,), n >= 0.

        They are in ascending order, or from the shortest sample to the longest.
        """
        drawn = self._draw(epoch, index)
        return drawn if self._lengths is None else drawn[np.argsort(self._lengths[drawn], kind="stable")]

    def _draw(self, epoch: int, index: int) -> Indices:
        if self._threshold == 1 << 64:
            return self._own.copy()
        window_key = hashlib.sha256(self._key + f"{epoch} {index}".encode()).digest()
        stream = Cipher(algorithms.AES(window_key), modes.CTR(bytes(16))).encryptor()
        drawn = np.frombuffer(stream.update(bytes(8 * len(self._own))), dtype="<u8")
        return self._own[drawn < np.uint64(self._threshold)]
