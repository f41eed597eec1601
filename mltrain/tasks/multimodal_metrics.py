"""Metrics of predicted voxels and reconstructed stimuli over a whole split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.data.loader import Batch
from mltrain.tasks.base import Metrics
from mltrain.tasks.multimodal_sums import ErrorSums, PairSums

__all__ = ["RecordingMetrics"]


class RecordingMetrics(Metrics):
    """Correlation over time of each voxel, errors, and the share of the variance that is explained.

    - `voxel_correlation`: Pearson's r over the examples of the split, the mean over voxels. A voxel that does not vary
      is left out; one that is predicted not to vary counts as 0.
    - `fmri_mse`, `fmri_mae`: in units of the training split's standard deviation of each voxel.
    - `fmri_explained` and `<modality>_explained`: 1 - squared error / variation about the split's own mean of each
      voxel, pixel, ...: 0 is what that mean would give, 1 is perfect.

    Args:
        modalities: names of what is reconstructed.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        own = ("voxel_correlation", "fmri_mse", "fmri_mae", "fmri_explained")
        self.names = (*own, *(f"{name}_explained" for name in modalities))
        self._fmri = PairSums()
        self._stimuli = {name: ErrorSums() for name in modalities}

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in `fmri` and each modality of the outputs, with `<name>_target`, (B, ...)."""
        self._fmri.add(outputs["fmri"], outputs["fmri_target"])
        for name, sums in self._stimuli.items():
            sums.add(outputs[name], outputs[f"{name}_target"])

    def correlation(self) -> NDArray[np.float64]:
        """Return the correlation of each voxel, the subjects in a row; NaN where it does not vary."""
        return self._fmri.correlation()

    def compute(self) -> dict[str, float]:
        """Return all metrics."""
        correlation = self.correlation()
        if len(correlation) == 0:
            return {}
        varies = np.isfinite(correlation)
        return {
            "voxel_correlation": float(correlation[varies].mean()) if varies.any() else 0.0,
            "fmri_mse": self._fmri.squared_error(),
            "fmri_mae": self._fmri.absolute_error(),
            "fmri_explained": self._fmri.explained(),
            **{f"{name}_explained": sums.explained() for name, sums in self._stimuli.items()},
        }

    def state(self) -> dict[str, Any]:
        """Return all sums."""
        return {"fmri": self._fmri.state(), **{name: sums.state() for name, sums in self._stimuli.items()}}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add sums."""
        for name, sums in {"fmri": self._fmri, **self._stimuli}.items():
            sums.merge(state[name])
