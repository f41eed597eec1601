"""Accumulators for modules of the user's own, of which little is known before the first batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.data.loader import Batch
from mltrain.models.registry import logits_of
from mltrain.tasks.base import Metrics
from mltrain.tasks.classification_metrics import ClassificationMetrics

__all__ = ["NoMetrics", "OutputSizedMetrics"]


class NoMetrics(Metrics):
    """Nothing beside the loss."""

    names: tuple[str, ...] = ()

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in nothing."""

    def compute(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add nothing."""


class OutputSizedMetrics(Metrics):
    """Classification metrics for as many classes as the first outputs have."""

    names: tuple[str, ...] = ClassificationMetrics.names

    def __init__(self) -> None:
        self._inner: ClassificationMetrics | None = None

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, shape (C, C): rows are true classes, columns predicted ones; (0, 0) before the first batch."""
        return np.zeros((0, 0), dtype=np.int64) if self._inner is None else self._inner.confusion

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in logits (B, C), or what holds them, and `batch["labels"]` (B,)."""
        logits = logits_of(outputs)
        self._sized(logits.shape[-1]).update(logits, batch)

    def compute(self) -> dict[str, float]:
        """Return accuracy and macro precision, recall and F1."""
        return {} if self._inner is None else self._inner.compute()

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {} if self._inner is None else self._inner.state()

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add counts."""
        if state:
            self._sized(len(state["confusion"])).merge(state)

    def _sized(self, num_classes: int) -> ClassificationMetrics:
        if self._inner is None:
            self._inner = ClassificationMetrics(num_classes)
        return self._inner
