"""The base of our own `evaluate.Metric` modules. Imports evaluate: import it where figures are wanted, not before."""

from __future__ import annotations

import tempfile
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

__all__ = ["OwnModule"]


class OwnModule(evaluate.Metric):
    """A metric whose inputs are columns of numbers, given to `_figures` as NumPy arrays.

    Nothing is written to the disk: inputs are kept in memory, and the folder that evaluate makes for each module is a
    temporary one, gone when the module is made. Needs no network.
    """

    columns: ClassVar[dict[str, str]]
    """Inputs of `compute`, by name, and the Arrow type of each."""
    text = ""
    """What the module measures."""

    def __init__(self, **settings: Any) -> None:
        for name, value in settings.items():
            setattr(self, name, value)
        with tempfile.TemporaryDirectory(prefix="mltrain-metric-") as folder:
            # Without a seed evaluate takes one from NumPy's global generator.
            super().__init__(keep_in_memory=True, cache_dir=folder, seed=0)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({name: datasets.Value(kind) for name, kind in self.columns.items()})
        return evaluate.MetricInfo(
            description=self.text, citation="", inputs_description=self.text, features=features, format="numpy"
        )

    def _compute(self, **inputs: Any) -> dict[str, Any]:
        # A column without rows has lost its type.
        return self._figures(**inputs | {name: np.asarray(inputs[name], kind) for name, kind in self.columns.items()})

    def _figures(self, **inputs: Any) -> dict[str, Any]:
        raise NotImplementedError
