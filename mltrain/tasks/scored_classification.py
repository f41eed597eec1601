"""Metrics of single-label classification that look at scores as well as at the predicted class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.data.loader import Batch
from mltrain.metrics.figures import classification_figures
from mltrain.tasks.base import Metrics
from mltrain.tasks.classification_metrics import ClassificationMetrics
from mltrain.tasks.further_figures import FurtherClassification
from mltrain.tasks.score_counts import ScoreCounts

__all__ = ["ScoredClassification"]

_MOST_SCORED_CLASSES = 32


class ScoredClassification(Metrics):
    """Accuracy, precision, recall, F1 and AUROC.

    Of two classes: `accuracy`, `f1_macro`, and `precision`, `recall`, `f1` and `auroc` of the positive one. Of more:
    `accuracy`, `f1_macro`, `precision_macro`, `recall_macro`, and up to 32 classes `auroc`, the mean over the classes,
    each against the rest. Without examples all are NaN, and so is the AUROC of a split that has one class alone; the
    mean leaves out classes that are absent.

    Predictions are gathered as counts: of (true class, predicted class), and of different scores (`ScoreCounts`). The
    modules of `mltrain.metrics` are fed with each pair and its count, so that neither memory nor a checkpoint in
    mid-epoch grows with the data without bound; the latter is 14 MB at most, and 8 bytes for each pair of classes.

    Args:
        classes: names of the classes, C of them.
        positive: of two classes, the one that figures are of; None: the last one.
        further: evaluate modules of the user's, `evaluation.metrics`.
    """

    def __init__(self, classes: Sequence[str], *, positive: str | None, further: Sequence[str] = ()) -> None:
        count = len(classes)
        names: tuple[str, ...] = ("accuracy", "f1_macro")
        if count == 2:
            self._positive: int | None = 1 if positive is None else list(classes).index(positive)
            names += ("precision", "recall", "f1")
        else:
            self._positive = None
            names += ("precision_macro", "recall_macro")
        self._counts = ClassificationMetrics(count)
        self._scores: ScoreCounts | None = None
        if count <= _MOST_SCORED_CLASSES:
            self._scores = ScoreCounts(range(count) if self._positive is None else [self._positive])
            names += ("auroc",)
        self._further = FurtherClassification(further, count, names)
        self.names = names + self._further.names

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, shape (C, C): rows are true classes, columns predicted ones."""
        return self._counts.confusion

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in logits (B, C) and `batch["labels"]` (B,)."""
        self._counts.update(outputs, batch)
        if self._scores is not None:
            self._scores.add(outputs, batch["labels"])
        self._further.update(outputs, batch["labels"])

    def compute(self) -> dict[str, float]:
        """Return the figures."""
        figures = classification_figures(self.confusion, positive=self._positive)
        if self._scores is not None:
            figures["auroc"] = self._scores.auroc()
        return figures | self._further.compute()

    def state(self) -> dict[str, Any]:
        """Return counts, scores, and what further modules take."""
        scores = None if self._scores is None else self._scores.state()
        return {"counts": self._counts.state(), "scores": scores, "further": self._further.state()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add counts, scores, and what further modules take."""
        self._counts.merge(state["counts"])
        if self._scores is not None:
            self._scores.merge(state["scores"])
        self._further.merge(state["further"])
