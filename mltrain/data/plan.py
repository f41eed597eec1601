"""The plan: which samples make up which window, and which of them a process computes in which microbatch.

The order of the samples is a pure function of (seed, epoch). It is cut into windows first, each the samples of one
optimizer step; only then is a window cut into ranks and microbatches. So no cut can change what a step learns from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mltrain.core.seeding import mix, permutation, stream_key

__all__ = ["Cut", "OrderedPlan", "Position", "Share", "ShuffledPlan"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    epoch: the epoch that is under way, from 0.
    window: windows of it that are done.
    step: optimizer steps done since the run began.
    """

    epoch: int = 0
    window: int = 0
    step: int = 0

    def after_step(self) -> Position:
        """Return the position one window on."""
        return Position(self.epoch, self.window + 1, self.step + 1)

    def next_epoch(self) -> Position:
        """Return the position at the start of the next epoch."""
        return replace(self, epoch=self.epoch + 1, window=0)


class ShuffledPlan:
    """Every sample once an epoch, in an order drawn from (seed, epoch); the last window of an epoch may be short.

    Args:
        num_samples: size of the training split.
        window_size: samples of a full window, over all ranks (G).
        seed: the run's seed.
    """

    def __init__(self, num_samples: int, window_size: int, seed: int) -> None:
        self.num_samples, self.window_size = num_samples, window_size
        self._key = stream_key(seed, "sample order")
        self._drawn: tuple[int, Indices] | None = None

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows of each epoch."""
        return math.ceil(self.num_samples / self.window_size)

    def window(self, epoch: int, index: int) -> Indices:
        """Return the sample indices of a window, shape (n,), 0 < n <= window_size."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, permutation(mix(self._key, epoch), self.num_samples))
        return self._drawn[1][index * self.window_size : (index + 1) * self.window_size]


class OrderedPlan:
    """Every sample once, in its own order: for evaluation.

    Args:
        num_samples: size of the split.
        window_size: samples that all ranks together evaluate at a time.
    """

    def __init__(self, num_samples: int, window_size: int) -> None:
        self.num_samples, self.window_size = num_samples, window_size

    @property
    def windows_per_epoch(self) -> int:
        """Number of windows."""
        return math.ceil(self.num_samples / self.window_size)

    def window(self, epoch: int, index: int) -> Indices:
        """Return the sample indices of a window, shape (n,); the same for every epoch."""
        start = index * self.window_size
        return np.arange(start, min(start + self.window_size, self.num_samples), dtype=np.int64)


@dataclass(frozen=True)
class Share:
    """What one rank computes of a window.

    microbatches: sample indices, none of them empty; at least one microbatch, unless the whole window is empty.
    num_examples: samples of the whole window, over all ranks.
    num_own: microbatches that count. Those behind them are fillers: they repeat a sample that counts elsewhere, so that
        this rank takes part in collective operations, and must be given no weight.
    """

    microbatches: tuple[Indices, ...]
    num_examples: int
    num_own: int

    @property
    def filler(self) -> bool:
        """Whether the rank has no sample of its own in the window."""
        return self.num_own == 0


@dataclass(frozen=True)
class Cut:
    """How windows are cut: into near-equal contiguous shares of ranks, and each share into microbatches.

    rank, processes: this process and how many there are.
    batch_size: most samples of a microbatch; a multiple of `group_size`.
    group_size: neighbours of a window that no cut separates. The last group of a window may be smaller.
    in_step: every rank gets as many microbatches as the others, fillers among them: where forward passes exchange
        weights, all ranks must do the same number.
    """

    rank: int
    processes: int
    batch_size: int
    group_size: int = 1
    in_step: bool = False

    def __post_init__(self) -> None:
        if self.batch_size % self.group_size:
            raise ValueError(f"microbatches of {self.batch_size} cannot hold whole groups of {self.group_size}")

    def share(self, window: Indices) -> Share:
        """Return this rank's share of a window."""
        base, extra = divmod(math.ceil(len(window) / self.group_size), self.processes)
        first = self.rank * base + min(self.rank, extra)
        last = first + base + (self.rank < extra)
        own = window[first * self.group_size : last * self.group_size]
        microbatches = [own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size)]
        num_fillers = max(0, self._least(len(window), base + (extra > 0)) - len(microbatches))
        return Share((*microbatches, *[window[:1]] * num_fillers), len(window), num_own=len(microbatches))

    def _least(self, window_size: int, most_groups: int) -> int:
        """Return how many microbatches a rank has at least, where the largest share has `most_groups` groups."""
        if window_size == 0:
            return 0  # a random draw may be empty: there is nothing to repeat
        return math.ceil(most_groups / (self.batch_size // self.group_size)) if self.in_step else 1
