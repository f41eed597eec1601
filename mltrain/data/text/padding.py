"""Sequences of different lengths as one tensor: filled up to the longest of their batch, with a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["pad_batch"]


def pad_batch(sequences: Sequence[NDArray[np.integer]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sequences as one tensor, and which of its places hold one of their values.

    Args:
        sequences: B arrays of one dimension, the longest of L values.
        pad_id: what fills the rest, behind each.

    Returns:
        The values, int64 (B, L), and the mask, int64 (B, L): 1 for a value, 0 for what fills.
    """
    longest = max((len(sequence) for sequence in sequences), default=0)
    values = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        values[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return torch.from_numpy(values), torch.from_numpy(mask)
