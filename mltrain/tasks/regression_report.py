"""Reports of a regression about one split: its figures as text, and predicted over true values as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.files import write_text
from mltrain.tasks.scored_regression import ScoredRegression

__all__ = ["draw_predictions", "regression_text", "write_regression_report"]

_MOST_POINTS = 20_000


def write_regression_report(split: str, metrics: ScoredRegression, *, logs: Path, reports: Path) -> None:
    """Write `regression_report_<split>.txt` into `logs` and `predicted_over_true_<split>.png` into `reports`."""
    predictions, targets = metrics.pairs()
    if not len(targets):
        return
    write_text(logs / f"regression_report_{split}.txt", regression_text(metrics.compute(), predictions, targets))
    draw_predictions(
        predictions, targets, f"{split}: predicted over true", reports / f"predicted_over_true_{split}.png"
    )


def regression_text(figures: dict[str, float], predictions: NDArray[Any], targets: NDArray[Any]) -> str:
    """Return the figures, and the spread of the targets and of the errors, in the unit of the target."""
    errors = predictions.astype(np.float64) - targets
    quantiles = np.quantile(np.abs(errors), [0.5, 0.9, 1.0])
    lines = [("examples", f"{len(targets)}"), *((name, f"{value:.6g}") for name, value in figures.items())]
    lines += [
        ("mean of the targets", f"{targets.mean(dtype=np.float64):.6g}"),
        ("standard deviation of the targets", f"{targets.std(dtype=np.float64):.6g}"),
        ("mean error (predicted - true)", f"{errors.mean():.6g}"),
        *zip(
            ("half of the absolute errors below", "90 % of them below", "largest of them"),
            (f"{value:.6g}" for value in quantiles),
            strict=True,
        ),
    ]
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:<{width}}  {value}\n" for name, value in lines)


def draw_predictions(predictions: NDArray[Any], targets: NDArray[Any], title: str, path: Path) -> None:
    """Draw predicted over true values, and the line on which both are equal, to a PNG.

    Of more than 20,000 pairs every n-th in the order of the targets is drawn, which the title says.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    step = -(-len(targets) // _MOST_POINTS)
    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(targets[::step], predictions[::step], s=12, alpha=0.5, linewidths=0)
    ends = [min(targets.min(), predictions.min()), max(targets.max(), predictions.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(title=title if step == 1 else f"{title} (1 of {step})", xlabel="true", ylabel="predicted")
    figure.savefig(path, dpi=110)
