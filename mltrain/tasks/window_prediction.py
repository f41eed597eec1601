"""Predicting from texts that are read in windows, alone or with a question each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mltrain.data.loader import Batch
from mltrain.data.text.window_dataset import WindowDataset, collate_windows
from mltrain.data.text.windows import cut_windows
from mltrain.tasks.given_texts import given_texts
from mltrain.tasks.reading_settings import ReadingSettings
from mltrain.tasks.span_reading import SpanReader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["WindowPredictor"]

_MOST_AT_ONCE = 64


class WindowPredictor:
    """Predicts from texts.

    Args:
        model: predictions are made with whatever weights it holds, on the device it is on.
        tokenizer, settings: what the model was trained with.
        rows_of: (model, batch of texts, reader of the same texts) -> one row of plain values for each.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerFast,
        settings: ReadingSettings,
        rows_of: Callable[[nn.Module, Batch, SpanReader], list[dict[str, Any]]],
    ) -> None:
        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        self._rows_of = rows_of

    def __call__(self, texts: Any) -> list[dict[str, Any]]:
        """Return one row for each text.

        Args:
            texts: a text or a sequence of texts; of a model that was trained with a question for each, a pair
                (question, text) or a sequence of pairs. One alone gives a list of one row.

        Raises:
            DataError: something else was given, or a text that is no sound Unicode.
        """
        given = given_texts(texts, pairs=self._settings.pairs)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(given), _MOST_AT_ONCE):
            rows += self._rows(given[start : start + _MOST_AT_ONCE])
        return rows

    @torch.inference_mode()
    def _rows(self, given: Sequence[Any]) -> list[dict[str, Any]]:
        settings = self._settings
        contexts = [one[1] for one in given] if settings.pairs else list(given)
        questions = [one[0] for one in given] if settings.pairs else None
        if settings.question is not None:
            questions = [settings.question] * len(contexts)
        windows = cut_windows(
            self._tokenizer,
            contexts,
            questions,
            max_length=settings.max_length,
            stride=settings.stride,
            place=lambda row: f"predict, text {row}",
        )
        targets = np.zeros((len(windows.window_starts) - 1, 2), dtype=np.int32)
        dataset = WindowDataset(np.arange(len(contexts)), [""] * len(contexts), windows, targets)
        items = [dataset.load(index, None) for index in range(len(dataset))]
        device = next(self._model.parameters()).device
        batch = collate_windows(items, int(self._tokenizer.pad_token_id))
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        return self._rows_of(self._model, batch, SpanReader(contexts, windows))
