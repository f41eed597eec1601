"""Metrics of regression, from all predictions of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mltrain.data.loader import Batch
from mltrain.metrics.figures import regression_figures
from mltrain.tasks.base import Metrics
from mltrain.tasks.gathered_rows import GatheredRows

__all__ = ["ScoredRegression"]


class ScoredRegression(Metrics):
    """Mean absolute error, root mean squared error and R2, in the target's own unit.

    Every prediction and target is kept, as the type that it came in: 8 bytes an example of float32, which is what a
    checkpoint in mid-epoch holds of the examples since the epoch began (and base64 makes 11 of them). Sums alone would
    be smaller, but their last bits would depend on how the examples were cut and merged.

    Args:
        further: evaluate modules of the user's, `evaluation.metrics`.
    """

    names = ("mae", "rmse", "r2")

    def __init__(self, *, further: Sequence[str] = ()) -> None:
        self._rows = GatheredRows("targets", "predictions")

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in predictions (B,) and `batch["targets"]` (B,)."""
        self._rows.add(batch["targets"], outputs)

    def compute(self) -> dict[str, float]:
        """Return mae, rmse and r2; NaN where they are not defined."""
        rows = self._rows.columns()
        empty = np.zeros(0)
        return regression_figures(rows.get("predictions", empty), rows.get("targets", empty))

    def state(self) -> dict[str, Any]:
        """Return all predictions and targets."""
        return {"rows": self._rows.state()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add predictions and targets."""
        self._rows.merge(state["rows"])
