"""Modules of regression: mean absolute error, root mean squared error, share of the variance explained."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mltrain.metrics.own_module import NumberModule

__all__ = ["R2", "Mae", "Rmse"]


class _OfNumbers(NumberModule):
    """Inputs: predicted and true number of each example. NaN without examples."""

    columns: ClassVar[dict[str, str]] = {"predictions": "float64", "references": "float64"}


class Mae(_OfNumbers):
    """Mean absolute error, in the unit of the inputs."""

    text = "Mean absolute error."

    def _figures(self, predictions: NDArray[np.float64], references: NDArray[np.float64]) -> dict[str, float]:
        return {"mae": _mean(np.abs(predictions - references))}


class Rmse(_OfNumbers):
    """Root of the mean squared error, in the unit of the inputs."""

    text = "Root of the mean squared error."

    def _figures(self, predictions: NDArray[np.float64], references: NDArray[np.float64]) -> dict[str, float]:
        return {"rmse": _mean((predictions - references) ** 2) ** 0.5}


class R2(_OfNumbers):
    """Coefficient of determination: 1 - squared errors / squared deviations from the references' mean.

    NaN for fewer than two examples, or where all references are equal and have no variance to explain.
    """

    text = "Coefficient of determination."

    def _figures(self, predictions: NDArray[np.float64], references: NDArray[np.float64]) -> dict[str, float]:
        if len(references) < 2 or np.ptp(references) == 0:
            return {"r2": float("nan")}
        spread = ((references - references.mean()) ** 2).sum()
        return {"r2": float(1 - ((predictions - references) ** 2).sum() / spread)}


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
