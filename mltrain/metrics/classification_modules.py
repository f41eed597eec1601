"""Modules of single-label classification: accuracy, precision, recall, F1, confusion matrix, AUROC.

Every average is named: nothing is averaged over classes unless the figure's name says so.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mltrain.metrics.own_module import NumberModule

__all__ = ["F1", "Accuracy", "Auroc", "ConfusionMatrix", "Precision", "Recall"]

Average = Literal["binary", "macro"]


class _OfClasses(NumberModule):
    """Inputs: predicted and true class of each example, by index; with `sample_weight`, how often each row counts."""

    columns: ClassVar[dict[str, str]] = {"predictions": "int64", "references": "int64"}


class Accuracy(_OfClasses):
    """Share of the examples whose class is predicted; NaN without examples."""

    text = "Share of examples whose class is predicted."

    def _figures(
        self, predictions: NDArray[np.int64], references: NDArray[np.int64], sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        weights = _weights(sample_weight, len(references))
        total = int(weights.sum())
        return {"accuracy": int(weights[predictions == references].sum()) / total if total else float("nan")}


class ConfusionMatrix(_OfClasses):
    """Counts (C, C): rows are true classes, columns predicted ones.

    Args:
        num_classes: number of classes, C.
    """

    text = "Counts of true (rows) and predicted (columns) classes."
    num_classes: int

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes)

    def _figures(
        self, predictions: NDArray[np.int64], references: NDArray[np.int64], sample_weight: ArrayLike | None = None
    ) -> dict[str, Any]:
        return {"confusion_matrix": _confusion(predictions, references, sample_weight, self.num_classes)}


class _PerClass(_OfClasses):
    """A ratio of each class; of the positive one (`binary`), or the plain mean over classes (`macro`).

    The mean runs over the classes that occur among the labels or the predictions, as scikit-learn's does. A ratio
    without a denominator counts as 0. NaN without examples.

    Args:
        average: `binary` or `macro`.
        num_classes: number of classes, C.
        positive: index of the positive class, of `binary`.
    """

    figure = ""
    average: Average
    num_classes: int
    positive: int

    def __init__(self, average: Average, num_classes: int, positive: int = 1) -> None:
        super().__init__(average=average, num_classes=num_classes, positive=positive)

    def _figures(
        self, predictions: NDArray[np.int64], references: NDArray[np.int64], sample_weight: ArrayLike | None = None
    ) -> dict[str, float]:
        counts = _confusion(predictions, references, sample_weight, self.num_classes)
        hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        name = self.figure if self.average == "binary" else f"{self.figure}_macro"
        if not counts.sum():
            return {name: float("nan")}
        values = self._ratios(hits, true, predicted)
        return {
            name: float(values[self.positive] if self.average == "binary" else values[(true + predicted) > 0].mean())
        }

    def _ratios(
        self, hits: NDArray[np.int64], true: NDArray[np.int64], predicted: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        raise NotImplementedError


class Precision(_PerClass):
    """Share of the examples predicted as a class that are of it."""

    figure = "precision"
    text = "Share of the examples predicted as a class that are of it."

    def _ratios(
        self, hits: NDArray[np.int64], true: NDArray[np.int64], predicted: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return _ratio(hits, predicted)


class Recall(_PerClass):
    """Share of the examples of a class that are predicted as it."""

    figure = "recall"
    text = "Share of the examples of a class that are predicted as it."

    def _ratios(
        self, hits: NDArray[np.int64], true: NDArray[np.int64], predicted: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return _ratio(hits, true)


class F1(_PerClass):
    """Harmonic mean of precision and recall."""

    figure = "f1"
    text = "Harmonic mean of precision and recall."

    def _ratios(
        self, hits: NDArray[np.int64], true: NDArray[np.int64], predicted: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        return _ratio(2 * hits, true + predicted)


class Auroc(NumberModule):
    """Area under the ROC curve: how probably an example of a class has a higher score for it than one of no such class.

    Equal scores count as half. Inputs: `prediction_scores`, and `references`: 1 for an example of the class, 0 for
    another one. With `classes`, rows belong to several classes, each against the rest, and the figure is the plain
    mean over those with both kinds of examples. NaN where there is no such class, or where a score is NaN.
    """

    columns: ClassVar[dict[str, str]] = {"prediction_scores": "float32", "references": "int64"}
    text = "Area under the ROC curve; of several classes, the mean over each against the rest."

    def _figures(
        self,
        prediction_scores: NDArray[np.float32],
        references: NDArray[np.int64],
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> dict[str, float]:
        weights = _weights(sample_weight, len(references))
        groups = np.zeros(len(references), dtype=np.int64) if classes is None else np.asarray(classes)
        parts = (groups == group for group in np.unique(groups))
        areas = [_area(prediction_scores[part], references[part] == 1, weights[part]) for part in parts]
        defined = [area for area in areas if area is not None]
        return {"auroc": float(np.mean(defined)) if defined else float("nan")}


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _weights(sample_weight: ArrayLike | None, count: int) -> NDArray[np.int64]:
    return np.ones(count, dtype=np.int64) if sample_weight is None else np.asarray(sample_weight, dtype=np.int64)


def _confusion(
    predictions: NDArray[np.int64], references: NDArray[np.int64], sample_weight: ArrayLike | None, num_classes: int
) -> NDArray[np.int64]:
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (references, predictions), _weights(sample_weight, len(references)))
    return counts


def _area(scores: NDArray[np.float32], positive: NDArray[np.bool_], weights: NDArray[np.int64]) -> float | None:
    """Return the Mann-Whitney statistic over its greatest value; None without examples of both kinds."""
    total, of_positive = int(weights.sum()), int(weights[positive].sum())
    of_negative = total - of_positive
    if not of_positive or not of_negative:
        return None
    if np.isnan(scores).any():
        return float("nan")
    _, places = np.unique(scores, return_inverse=True)
    highs = np.bincount(places, weights=weights * positive)
    lows = np.bincount(places, weights=weights * ~positive)
    below = np.cumsum(lows) - lows
    return float((highs * (below + lows / 2)).sum() / of_positive / of_negative)
