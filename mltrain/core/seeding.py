"""Every random stream of a run, derived from the seed and from where it is used, never from what ran before.

A stream is a pure function of its key: initial weights of (seed), a step's dropout of (seed, step, rank), a sample's
augmentation of (seed, epoch, sample ID), the sample order of (seed, epoch). So a run can stop and continue anywhere
without saving a generator, and the number of workers cannot matter.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["SampleGenerator", "hash_id", "mix", "permutation", "stream_key"]

_MASK = 0xFFFFFFFFFFFFFFFF
_GAMMA = 0x9E3779B97F4A7C15


def mix(key: int, value: int) -> int:
    """Return a 64-bit key derived from `key` and `value`.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
    """
    z = (key + (value + 1) * _GAMMA) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def stream_key(seed: int, purpose: str) -> int:
    """Return the 64-bit key of a named stream of a run: two purposes never share draws."""
    return mix(seed & _MASK, hash_id(purpose))


def hash_id(identifier: str) -> int:
    """Return 64 bits of the blake2b of a stable sample ID."""
    content = identifier.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def permutation(key: int, length: int) -> NDArray[np.int64]:
    """Return a permutation of range(length) that depends on `key` alone, on every platform and library version.

    Positions are sorted by a hash of (key, position); ties, which are next to impossible, keep their order.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(key & _MASK) + (np.arange(length, dtype=np.uint64) + np.uint64(1)) * np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return np.argsort(z, kind="stable").astype(np.int64)


class SampleGenerator:
    """The source of randomness of one sample in one epoch: the stream of SplitMix64 from a key.

    Python's own generator takes longer to seed than most augmentations draw, and promises the same draws on every
    version for `random()` only; this one is defined here.

    Args:
        key: 64 bits.
    """

    __slots__ = ("_draws", "_key")

    def __init__(self, key: int) -> None:
        self._key, self._draws = key, 0

    def bits(self) -> int:
        """Return the next 64 bits: also a seed for a generator of torch or NumPy."""
        value = mix(self._key, self._draws)
        self._draws += 1
        return value

    def random(self) -> float:
        """Return the next number, uniform in [0, 1)."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, limit: int) -> int:
        """Return the next whole number, uniform in [0, limit); `limit` is far below 2^64."""
        return (self.bits() * limit) >> 64
