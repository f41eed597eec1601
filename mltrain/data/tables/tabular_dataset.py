"""Rows of a table as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.core.seeding import SampleGenerator
from mltrain.data.batches import Batch

__all__ = ["TabularDataset", "collate_rows"]


class TabularDataset:
    """Rows, ready for the model.

    Args:
        columns: name in a batch -> an array with an entry for each row.
        ids: a stable ID of each row.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]], ids: Sequence[str]) -> None:
        self._columns, self._ids = dict(columns), list(ids)

    def __len__(self) -> int:
        return len(self._ids)

    def sample_id(self, index: int) -> str:
        """Return the ID of the row."""
        return self._ids[index]

    def load(self, index: int, generator: SampleGenerator | None) -> dict[str, Any]:
        """Return the entries of the row by name."""
        return {name: column[index] for name, column in self._columns.items()}


def collate_rows(items: Sequence[Mapping[str, Any]]) -> Batch:
    """Return a tensor (B, ...) for each name."""
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
