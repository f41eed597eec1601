"""Tokenised texts of known class as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mltrain.core.seeding import SampleGenerator
from mltrain.data.text.token_cache import TokenArrays

__all__ = ["LabelledTokens", "TokenDataset"]


class LabelledTokens(NamedTuple):
    """The tokens of a text with its class.

    ids: int32 (n,).
    types: int32 (n,), which of a pair each belongs to; None: the text stands alone.
    label: index of the class.
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int32] | None
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
