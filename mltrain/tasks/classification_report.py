"""Reports of a classifier about one split: a text with figures per class, and the confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mltrain.core.files import write_text

__all__ = ["classification_text", "draw_confusion_matrix", "write_classification_report"]

_MOST_NUMBERED = 20


def write_classification_report(
    split: str, confusion: NDArray[np.int64], classes: Sequence[str], *, logs: Path, reports: Path
) -> None:
    """Write `classification_report_<split>.txt` into `logs` and `confusion_matrix_<split>.png` into `reports`."""
    write_text(logs / f"classification_report_{split}.txt", classification_text(confusion, classes))
    draw_confusion_matrix(confusion, classes, f"{split}: confusion matrix", reports / f"confusion_matrix_{split}.png")


def classification_text(confusion: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return scikit-learn's classification report for counts (C, C), rows true and columns predicted."""
    from sklearn.metrics import classification_report

    true, predicted = np.indices(confusion.shape).reshape(2, -1)
    report: str = classification_report(
        true,
        predicted,
        labels=range(len(classes)),
        target_names=list(classes),
        sample_weight=confusion.reshape(-1),
        digits=4,
        zero_division=0,
    )
    return report


def draw_confusion_matrix(confusion: NDArray[np.int64], classes: Sequence[str], title: str, path: Path) -> None:
    """Draw counts (C, C), each row coloured by its share, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(classes)
    side = min(14.0, max(4.0, 0.5 * count + 2))
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    if count <= _MOST_NUMBERED:
        axes.set_xticks(range(count), labels=classes, rotation=90 if max(map(len, classes)) > 3 else 0)
        axes.set_yticks(range(count), labels=classes)
        for row, column in np.ndindex(count, count):
            if confusion[row, column]:
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour)
    figure.savefig(path, dpi=110)
