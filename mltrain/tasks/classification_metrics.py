"""Metrics of single-label classification, all from one confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError
from mltrain.data.loader import Batch
from mltrain.tasks.base import Metrics
from mltrain.tasks.further_figures import FurtherClassification

__all__ = ["ClassificationMetrics"]

_FOLD_AFTER = 256


class ClassificationMetrics(Metrics):
    """Counts (true class, predicted class) pairs.

    Macro averages run over the classes that occur among the labels or the predictions, as scikit-learn's do; a ratio
    without a denominator counts as 0.

    Args:
        num_classes: number of classes, C.
        further: evaluate modules of the user's, `evaluation.metrics`.
    """

    names: tuple[str, ...] = ("accuracy", "f1_macro", "precision_macro", "recall_macro")

    def __init__(self, num_classes: int, *, further: Sequence[str] = ()) -> None:
        self._num_classes = num_classes
        self._further = FurtherClassification(further, num_classes, self.names)
        self.names += self._further.names
        self._counts = np.zeros((num_classes, num_classes), dtype=np.int64)
        self._pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, shape (C, C): rows are true classes, columns predicted ones."""
        self._fold()
        return self._counts

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in logits (B, C) and `batch["labels"]` (B,)."""
        # Both stay on the device until they are asked for.
        self._pending.append((batch["labels"], outputs.argmax(dim=-1)))
        self._further.update(outputs, batch["labels"])
        if len(self._pending) >= _FOLD_AFTER:
            self._fold()

    def compute(self) -> dict[str, float]:
        """Return accuracy, macro precision, recall and F1, and further figures."""
        counts = self.confusion
        total = int(counts.sum())
        if total == 0:
            return self._further.compute()
        hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        seen = (true + predicted) > 0
        precision, recall = _ratio(hits, predicted)[seen], _ratio(hits, true)[seen]
        f1 = _ratio(2 * hits, true + predicted)[seen]
        return {
            "accuracy": float(hits.sum() / total),
            "f1_macro": float(f1.mean()),
            "precision_macro": float(precision.mean()),
            "recall_macro": float(recall.mean()),
        } | self._further.compute()

    def state(self) -> dict[str, Any]:
        """Return the counts, and what further modules take."""
        further = self._further.state()
        return {"confusion": self.confusion.tolist()} | ({"further": further} if further else {})

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add counts, and what further modules take."""
        self._fold()
        self._counts += np.asarray(state["confusion"], dtype=np.int64)
        self._further.merge(state.get("further", {}))

    def _fold(self) -> None:
        if self._pending:
            labels, predictions = (torch.cat(tensors) for tensors in zip(*self._pending, strict=True))
            places = (labels * self._num_classes + predictions).cpu().numpy()
            counts = np.bincount(places, minlength=self._counts.size)
            if counts.size > self._counts.size:
                raise ConfigError(
                    f"a label or a prediction is not among the {self._num_classes} classes, from 0 on",
                    where="ClassificationMetrics",
                    fix="Give it the number of the model's outputs.",
                )
            self._counts += counts.reshape(self._counts.shape)
            self._pending.clear()


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
