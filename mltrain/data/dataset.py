"""What a data set is to the loop."""

from __future__ import annotations

from typing import Any, Protocol

from mltrain.core.seeding import SampleGenerator

__all__ = ["SampleDataset"]


class SampleDataset(Protocol):
    """A map-style data set whose samples have stable IDs and take their own generator."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def sample_id(self, index: int) -> str:
        """Return an ID that stays with the sample, whatever its index in this or another list."""
        ...

    def load(self, index: int, generator: SampleGenerator | None) -> Any:
        """Return one sample, ready to be collated.

        Args:
            index: from 0.
            generator: the sample's own source of randomness in this epoch, for augmentation. None: no augmentation.
        """
        ...
