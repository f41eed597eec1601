"""Tokenised texts of known class as a data set, and as batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.core.seeding import SampleGenerator
from mltrain.data.batches import Batch
from mltrain.data.text.padding import pad_batch
from mltrain.data.text.token_cache import TokenArrays

__all__ = ["LabelledTokens", "TokenDataset", "collate_tokens"]


class LabelledTokens(NamedTuple):
    """The tokens of a text with its class.

    ids: integers (n,).
    types: integers (n,), which of a pair each belongs to; None: the text stands alone.
    label: index of the class.
    """

    ids: NDArray[np.integer]
    types: NDArray[np.integer] | None
    label: int


class TokenDataset:
    """Gives the tokens of each text.

    Args:
        tokens: of all texts.
        labels: class index of each.
        ids: a stable ID of each.
    """

    def __init__(self, tokens: TokenArrays, labels: Sequence[int], ids: Sequence[str]) -> None:
        self._tokens, self._labels, self._ids = tokens, list(labels), list(ids)

    def __len__(self) -> int:
        return len(self._labels)

    def sample_id(self, index: int) -> str:
        """Return the ID of the text's row."""
        return self._ids[index]

    def load(self, index: int, generator: SampleGenerator | None) -> LabelledTokens:
        """Return the tokens and the class of a text."""
        return LabelledTokens(self._tokens.ids(index), self._tokens.types(index), self._labels[index])


def collate_tokens(items: Sequence[LabelledTokens], pad_id: int) -> Batch:
    """Return `input_ids`, `attention_mask` and of pairs `token_type_ids`, int64 (B, L), and `labels`, int64 (B,).

    Args:
        items: texts; all of them pairs, or none.
        pad_id: the token that fills shorter ones up to the longest, behind their end.
    """
    ids, mask = pad_batch([item.ids for item in items], pad_id)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([item.label for item in items])}
    types = [item.types for item in items if item.types is not None]
    if types:
        batch["token_type_ids"], _ = pad_batch(types, 0)
    return batch
