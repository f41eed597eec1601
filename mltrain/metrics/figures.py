"""Figures from gathered predictions, by our own modules combined. evaluate is imported with the first of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["auroc", "classification_figures", "regression_figures"]


def classification_figures(confusion: NDArray[np.int64], *, positive: int | None) -> dict[str, float]:
    """Return accuracy and macro F1, and further ones: of the positive class, or macro averages.

    Args:
        confusion: counts (C, C), rows true and columns predicted; each cell is fed as one row with its weight.
        positive: index of the positive class of two; None: precision and recall are macro averages.
    """
    import evaluate

    from mltrain.metrics.classification_modules import F1, Accuracy, Precision, Recall

    count = len(confusion)
    modules: list[Any] = [Accuracy(), F1("macro", count)]
    if positive is None:
        modules += [Precision("macro", count), Recall("macro", count)]
    else:
        modules += [kind("binary", count, positive) for kind in (Precision, Recall, F1)]
    true, predicted = np.nonzero(confusion)
    figures: dict[str, float] = evaluate.combine(modules).compute(
        predictions=predicted, references=true, sample_weight=confusion[true, predicted]
    )
    return figures


def auroc(
    scores: NDArray[np.float32], positive: NDArray[np.bool_], weights: NDArray[np.int64], classes: NDArray[np.int64]
) -> float:
    """Return the area under the ROC curve, the mean over classes of each against the rest.

    Args:
        scores: of an example for a class, (N,).
        positive: whether it is of that class, (N,).
        weights: how many examples stand for each row, (N,).
        classes: the class, (N,).
    """
    import evaluate

    from mltrain.metrics.classification_modules import Auroc

    combined = evaluate.combine([Auroc()])
    figures: dict[str, float] = combined.compute(
        prediction_scores=scores, references=positive.astype(np.int64), sample_weight=weights, classes=classes
    )
    return figures["auroc"]


def regression_figures(predictions: NDArray[Any], references: NDArray[Any]) -> dict[str, float]:
    """Return mae, rmse and r2 of numbers (N,) against true ones (N,)."""
    import evaluate

    from mltrain.metrics.regression_modules import R2, Mae, Rmse

    figures: dict[str, float] = evaluate.combine([Mae(), Rmse(), R2()]).compute(
        predictions=predictions.astype(np.float64), references=references.astype(np.float64)
    )
    return figures
