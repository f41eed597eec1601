"""How texts are read and answers chosen: the same in training, in evaluation and in a packed model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mltrain.tasks.span_decoding import best_spans

__all__ = ["ReadingSettings"]


@dataclass(frozen=True)
class ReadingSettings:
    """Settings, all of them JSON values.

    max_length, stride: of windows, see `cut_windows`.
    question: asked of every text; None: no question, or one with each text.
    pairs: each text comes with a question or criterion of its own.
    max_answer_length, null_threshold: how answers are chosen, see `best_spans`.
    """

    max_length: int
    stride: int
    question: str | None
    pairs: bool
    max_answer_length: int
    null_threshold: float

    def best_spans(self, starts: Tensor, ends: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the answer of each row from the scores of tokens, (B, W, L)."""
        return best_spans(
            starts, ends, batch, max_answer_length=self.max_answer_length, null_threshold=self.null_threshold
        )
