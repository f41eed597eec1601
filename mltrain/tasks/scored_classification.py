"""Metrics of single-label classification with scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.data.loader import Batch
from mltrain.metrics.figures import auroc, classification_figures
from mltrain.tasks.base import Metrics
from mltrain.tasks.classification_metrics import ClassificationMetrics
from mltrain.tasks.gathered_rows import GatheredRows

__all__ = ["ScoredClassification"]

_MOST_SCORED_CLASSES = 32


class ScoredClassification(Metrics):
    """Accuracy, precision, recall, F1 and AUROC.

    Args:
        classes: names of the classes.
        positive: of two classes, the one that precision, recall and F1 are of; None: the last one.
        further: evaluate modules of the user's, `evaluation.metrics`.
    """

    def __init__(self, classes: Sequence[str], *, positive: str | None, further: Sequence[str] = ()) -> None:
        count = len(classes)
        self._counts = ClassificationMetrics(count)
        self._positive = None if count != 2 else 1 if positive is None else list(classes).index(positive)
        self._scores = GatheredRows("labels", "logits") if count <= _MOST_SCORED_CLASSES else None
        own = ("accuracy", "f1_macro")
        own += ("precision_macro", "recall_macro") if self._positive is None else ("precision", "recall", "f1")
        self.names = (*own, "auroc") if self._scores is not None else own

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, shape (C, C): rows are true classes, columns predicted ones."""
        return self._counts.confusion

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in logits (B, C) and `batch["labels"]` (B,)."""
        self._counts.update(outputs, batch)
        if self._scores is not None:
            self._scores.add(batch["labels"], outputs)

    def compute(self) -> dict[str, float]:
        """Return the figures; NaN where they are not defined."""
        figures = classification_figures(self.confusion, positive=self._positive)
        if self._scores is not None:
            figures["auroc"] = self._auroc()
        return figures

    def state(self) -> dict[str, Any]:
        """Return counts and scores."""
        scores = None if self._scores is None else self._scores.state()
        return {"counts": self._counts.state(), "scores": scores}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add counts and scores."""
        self._counts.merge(state["counts"])
        if self._scores is not None:
            self._scores.merge(state["scores"])

    def _auroc(self) -> float:
        assert self._scores is not None
        rows = self._scores.columns()
        if not rows:
            return float("nan")
        logits, labels = rows["logits"].astype(np.float64), rows["labels"]
        shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        classes = range(shares.shape[1]) if self._positive is None else [self._positive]
        number = np.repeat(np.asarray(classes), len(labels))
        return auroc(
            np.concatenate([shares[:, index] for index in classes]).astype(np.float32),
            np.tile(labels, len(classes)) == number,
            np.ones(len(number), dtype=np.int64),
            number,
        )
