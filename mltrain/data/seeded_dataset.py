"""A data set of the user's own, read so that a sample's randomness depends on nothing but the sample and the epoch."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch

from mltrain.core.seeding import SampleGenerator, mix, stream_key

__all__ = ["MapDataset", "SeededDataset", "seeded"]

_EVALUATION = stream_key(0, "evaluation of a data set of the user's own")
# Swapped in while a sample is read: saving and restoring the state of NumPy's own generator takes twenty times as long.
_numpy: Any = np.random  # its stubs lack the two functions that exchange the global generator
_NUMPY_GENERATOR = np.random.MT19937(0)


class MapDataset(Protocol):
    """A map-style data set, such as torch's, or a list of samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class SeededDataset:
    """Reads a map-style data set whose transforms draw from the generators of Python, NumPy and torch.

    These are seeded for each sample from its own generator, and put back afterwards, so that neither the order of
    loading nor the number of workers nor a resumed run changes what is drawn, and the model's own draws go on as if
    nothing had been read. In evaluation a sample is read with the same draws every time. A data set that keeps a
    generator of its own (`numpy.random.default_rng` in its constructor, say) is out of reach of this.

    Args:
        dataset: the data set.
    """

    def __init__(self, dataset: MapDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def sample_id(self, index: int) -> str:
        """Return the index: the data set is taken to keep its order."""
        return str(index)

    def load(self, index: int, generator: SampleGenerator | None) -> Any:
        """Return one item, drawn with the sample's generator; None: with draws that depend on the index alone."""
        with seeded(mix(_EVALUATION, index) if generator is None else generator.bits()):
            return self._dataset[index]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and torch (on the host) while the block runs, then put them back.

    Of NumPy's generator the second number of a half-used pair of Gaussian draws is not put back.
    """
    numpy_generator = _numpy.get_bit_generator()
    python_state, torch_state = random.getstate(), torch.default_generator.get_state()
    random.seed(seed)
    _numpy.set_bit_generator(_NUMPY_GENERATOR)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)
    try:
        yield
    finally:
        _numpy.set_bit_generator(numpy_generator)
        torch.default_generator.set_state(torch_state)
        random.setstate(python_state)
