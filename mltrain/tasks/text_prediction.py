"""Predicting with a packed text classifier: from texts or pairs of texts to rows of class and probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mltrain.data.text.encoding import Texts, Tokens, TokenSettings, encoded
from mltrain.data.text.token_dataset import LabelledTokens, collate_tokens
from mltrain.models.registry import logits_of
from mltrain.models.text_models import text_inputs
from mltrain.tasks.given_texts import given_texts
from mltrain.tasks.image_prediction import predicted_classes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["TextPredictor"]

_MOST_AT_ONCE = 64


class TextPredictor:
    """Predicts the classes of texts, or of pairs of texts.

    Args:
        model: the classifier; predictions are made with whatever weights it holds, on the device it is on.
        tokenizer, settings: what the model was trained with.
        classes: names of the classes, in the order of the model's outputs.
        pairs: whether the model reads pairs of texts.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerFast,
        settings: TokenSettings,
        classes: Sequence[str],
        *,
        pairs: bool,
    ) -> None:
        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        self._classes, self._pairs = list(classes), pairs

    def __call__(self, texts: Any) -> list[dict[str, Any]]:
        """Return one row for each text: {"class": name, "probability": share}.

        Args:
            texts: a text or a sequence (list, array, column of pandas) of texts; of a model that reads pairs, a pair of
                two texts, or a sequence of pairs. One alone gives a list of one row.

        Raises:
            DataError: something else was given, or a text that is no sound Unicode.
        """
        given = given_texts(texts, pairs=self._pairs)
        columns = zip(*given, strict=True) if self._pairs and given else [given]
        tokens = list(encoded(Texts(*map(list, columns)), self._tokenizer, self._settings))
        rows: list[dict[str, Any]] = []
        for start in range(0, len(tokens), _MOST_AT_ONCE):
            rows += self._rows(tokens[start : start + _MOST_AT_ONCE])
        return rows

    @torch.inference_mode()
    def _rows(self, tokens: Sequence[Tokens]) -> list[dict[str, Any]]:
        device = next(self._model.parameters()).device
        items = [
            LabelledTokens(np.asarray(one.ids), np.asarray(one.types) if self._pairs else None, 0) for one in tokens
        ]
        batch = collate_tokens(items, int(self._tokenizer.pad_token_id))
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        return predicted_classes(logits_of(self._model(**text_inputs(self._model, batch))), self._classes)
