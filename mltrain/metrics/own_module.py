"""The base of our own `evaluate.Metric` modules. Imports evaluate: import it where figures are wanted, not before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

__all__ = ["NumberModule", "OwnModule"]


class OwnModule(evaluate.Metric):
    """A metric that needs no network and leaves nothing on the disk.

    Inputs are kept in memory, and the folder that evaluate makes for each module is a temporary one, gone when the
    module is made.
    """

    text = ""
    """What the module measures."""

    def __init__(self, **settings: Any) -> None:
        for name, value in settings.items():
            setattr(self, name, value)
        with tempfile.TemporaryDirectory(prefix="mltrain-metric-") as folder:
            # Without a seed evaluate takes one from NumPy's global generator.
            super().__init__(keep_in_memory=True, cache_dir=folder, seed=0)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.text, citation="", inputs_description=self.text, features=self._features()
        )

    def _features(self) -> datasets.Features:
        raise NotImplementedError


class NumberModule(OwnModule):
    """A metric whose inputs are columns of numbers; a subclass computes `_figures` from them as NumPy arrays."""

    columns: ClassVar[dict[str, str]]
    """Inputs of `compute`, by name, and the type of each."""
    _figures: Callable[..., dict[str, Any]]

    def add_batch(self, **inputs: ArrayLike | None) -> None:
        """Take in one array (N,) for each column."""
        # evaluate encodes value by value, which takes 4 us each; whole columns take 1 ns a value.
        arrays = {name: np.asarray(inputs[name], dtype=kind) for name, kind in self.columns.items()}
        if len({array.shape for array in arrays.values()}) > 1 or any(array.ndim != 1 for array in arrays.values()):
            raise ValueError(f"{self.name} takes columns of one length, was given {[a.shape for a in arrays.values()]}")
        if self.writer is None:
            self.selected_feature_format = self.features
            self._init_writer()
        self.writer.write_table(pa.table(arrays))

    def _info(self) -> evaluate.MetricInfo:
        info = super()._info()
        info.format = "arrow"
        return info

    def _features(self) -> datasets.Features:
        return datasets.Features({name: datasets.Value(kind) for name, kind in self.columns.items()})

    def _compute(self, **inputs: Any) -> dict[str, Any]:
        # A column without rows has lost its type.
        columns = {name: np.asarray(inputs[name], kind) for name, kind in self.columns.items()}
        with np.errstate(invalid="ignore", over="ignore"):
            return self._figures(**inputs | columns)
