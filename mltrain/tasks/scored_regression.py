"""Metrics of regression, from all predictions of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.data.loader import Batch
from mltrain.metrics.figures import regression_figures
from mltrain.metrics.further_modules import regression_modules
from mltrain.tasks.base import Metrics
from mltrain.tasks.further_figures import FurtherFigures
from mltrain.tasks.gathered_rows import GatheredRows

__all__ = ["ScoredRegression"]


class ScoredRegression(Metrics):
    """Mean absolute error, root mean squared error and R2, in the target's own unit.

    Every prediction and target is kept, as the type that it came in: the modules that compute the figures are fed with
    all of them. A checkpoint in mid-epoch holds 8 bytes in float32 (11 in base64) for each example since the epoch
    began, and twice that with further modules. Figures that are not defined, such as R2 of one example, are NaN.

    Args:
        further: evaluate modules of the user's, `evaluation.metrics`.
    """

    names: tuple[str, ...] = ("mae", "rmse", "r2")

    def __init__(self, *, further: Sequence[str] = ()) -> None:
        self._rows = GatheredRows("targets", "predictions")
        self._further = FurtherFigures(regression_modules(further, self.names) if further else None)
        self.names += self._further.names

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in predictions (B,) and `batch["targets"]` (B,)."""
        self._rows.add(batch["targets"], outputs)
        self._further.add(predictions=outputs, references=batch["targets"])

    def compute(self) -> dict[str, float]:
        """Return mae, rmse, r2 and further figures."""
        rows = self._rows.columns() or {"predictions": np.zeros(0), "targets": np.zeros(0)}
        return regression_figures(rows["predictions"], rows["targets"]) | self._further.compute()

    def pairs(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return all predictions and targets, each (N,), sorted by the targets."""
        rows = self._rows.columns() or {"predictions": np.zeros(0), "targets": np.zeros(0)}
        return rows["predictions"], rows["targets"]

    def state(self) -> dict[str, Any]:
        """Return all predictions and targets, and what further modules take."""
        return {"rows": self._rows.state(), "further": self._further.state()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add predictions and targets."""
        self._rows.merge(state["rows"])
        self._further.merge(state["further"])
