"""Dividing a timeline into train, val and test so that neighbours do not leak, as a pure function of a seed.

Samples that follow one another are alike: what was shown changes slowly, and the response to it lasts. So the timeline
is cut into blocks, whole blocks go to one side, and where the side changes the first samples of the later block are
left out. Two samples of different sides are then more than `gap` apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import permutation, stream_key

__all__ = ["TEST", "TimeBlocks", "assign_sides", "least_blocks", "least_gap"]

TEST = -1


def least_gap(delay: int, window: int) -> int:
    """Return the smallest gap with which no later sample's stimuli were shown before an earlier one's response."""
    return delay + window - 1


def least_blocks(count: int, folds: int, test_share: float) -> int:
    """Return how many blocks give one to each fold and to the test split; `count` + 1 where so many do not."""
    enough = (blocks for blocks in range(folds + 1, count + 1) if blocks - _tested(blocks, test_share) >= folds)
    return next(enough, count + 1)


def assign_sides(count: int, folds: int, test_share: float, seed: int) -> NDArray[np.int64]:
    """Return for each of `count` things the fold in which it is validated, or `TEST`.

    Args:
        count: of the things that go to one side as a whole: blocks, or subjects.
        folds: each gets as many, but for one.
        test_share: of all things; at least one of them. It does not depend on the folds.
        seed: decides alone which thing goes where.

    Raises:
        ValueError: there are not enough for one in each fold and one in the test split.
    """
    tested = _tested(count, test_share)
    if count - tested < folds:
        raise ValueError(f"{count} cannot be divided into {folds} folds and a test split of {tested}")
    order = permutation(stream_key(seed, "sides"), count)
    sides = np.empty(count, dtype=np.int64)
    sides[order[:tested]] = TEST
    sides[order[tested:]] = np.arange(count - tested) % folds
    return sides


@dataclass(frozen=True)
class TimeBlocks:
    """A timeline in blocks.

    first, last: the samples that can be used: from `first` up to, but without, `last`.
    block_length: samples of a block; the last one may be shorter.
    gap: samples left out at the start of a block that follows one of another side.
    folds, test_share, seed: see `assign_sides`.
    """

    first: int
    last: int
    block_length: int
    gap: int
    folds: int
    test_share: float
    seed: int

    def __post_init__(self) -> None:
        if self.gap >= self.block_length:
            raise ConfigError(
                f"is {self.block_length}, of which a gap of {self.gap} leaves nothing",
                where="data.block_length",
                fix=self._longer(),
            )
        try:
            assign_sides(len(self), self.folds, self.test_share, self.seed)
        except ValueError as error:
            raise ConfigError(
                f"gives {len(self)} blocks of the {max(0, self.last - self.first)} samples that can be used, too few: "
                f"{error}",
                where="data.block_length",
                fix="Lower it, or data.folds.",
            ) from None

    def __len__(self) -> int:
        """Return the number of blocks; a rest shorter than half a block belongs to the one before."""
        return max(0, round((self.last - self.first) / self.block_length))

    def _longer(self) -> str:
        count = max(0, self.last - self.first)
        longest = count // least_blocks(count, self.folds, self.test_share)
        if longest <= self.gap:
            return "Lower data.gap, or data.folds."
        return f"Set it to at least {min(2 * self.gap, longest)}, or lower data.gap."

    def block_of(self) -> NDArray[np.int64]:
        """Return the block of each sample from `first` on."""
        blocks = np.arange(self.last - self.first) // self.block_length
        return np.minimum(blocks, len(self) - 1)

    def sides(self) -> NDArray[np.int64]:
        """Return the fold of each block, or `TEST`."""
        return assign_sides(len(self), self.folds, self.test_share, self.seed)

    def split(self, fold: int) -> dict[str, NDArray[np.int64]]:
        """Return the samples of "train", "val" and "test", sorted, where `fold` is validated."""
        sides = self.sides()
        named = np.where(sides == TEST, 2, np.where(sides == fold, 1, 0))
        block = self.block_of()
        starts = np.searchsorted(block, np.arange(len(self)))
        changed = np.append(False, named[1:] != named[:-1])
        since_start = np.arange(len(block)) - starts[block]
        kept = ~changed[block] | (since_start >= self.gap)
        times = np.arange(self.first, self.last)
        return {name: times[kept & (named[block] == number)] for number, name in enumerate(("train", "val", "test"))}


def _tested(count: int, test_share: float) -> int:
    return max(1, round(test_share * count))
