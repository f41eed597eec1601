"""Metrics of a classification and of spans side by side, and one score of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.data.loader import Batch
from mltrain.tasks.base import Metrics
from mltrain.tasks.scored_classification import ScoredClassification
from mltrain.tasks.span_metrics import SpanMetrics

__all__ = ["JointMetrics"]

_KEY = "model.score_weights"


class JointMetrics(Metrics):
    """Those of both tasks, as `classification_...` and `span_...`, and their weighted mean as `score`.

    Args:
        classification: takes `outputs["logits"]`.
        span: takes the outputs of `best_spans`.
        score_weights: names among those of both tasks, and the weight of each.

    Raises:
        ConfigError: a weight is that of no metric, or they do not add up to something above 0.
    """

    def __init__(
        self, classification: ScoredClassification, span: SpanMetrics, score_weights: Mapping[str, float]
    ) -> None:
        self._parts: dict[str, Metrics] = {"classification": classification, "span": span}
        self._classification, self._weights = classification, dict(score_weights)
        own = [f"{part}_{name}" for part, metrics in self._parts.items() for name in metrics.names]
        self.names = (*own, "score")
        _check_weights(self._weights, own)

    @property
    def confusion(self) -> NDArray[Any]:
        """Counts of (true class, predicted class), shape (C, C)."""
        return self._classification.confusion

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the outputs of both tasks."""
        self._parts["classification"].update(outputs["logits"], batch)
        self._parts["span"].update(outputs, batch)

    def compute(self) -> dict[str, float]:
        """Return the figures of both tasks, and the score."""
        found = {
            f"{part}_{name}": value
            for part, metrics in self._parts.items()
            for name, value in metrics.compute().items()
        }
        if not all(name in found for name in self._weights):
            return found
        total = sum(self._weights.values())
        score = sum(weight * found[name] for name, weight in self._weights.items()) / total
        return {**found, "score": score}

    def state(self) -> dict[str, Any]:
        """Return what both took in."""
        return {part: metrics.state() for part, metrics in self._parts.items()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what others took in."""
        for part, metrics in self._parts.items():
            metrics.merge(state[part])


def _check_weights(weights: Mapping[str, float], names: list[str]) -> None:
    for name in weights:
        if name not in names:
            close = nearest(name, names)
            raise ConfigError(
                f"has {name!r}, which is no metric of the two tasks",
                where=_KEY,
                fix=f"Did you mean {close!r}?" if close else f"They are {', '.join(names)}.",
            )
    if min(weights.values()) < 0 or sum(weights.values()) <= 0:
        raise ConfigError("has weights below 0, or of 0 in sum", where=_KEY, fix="Give one metric at least a weight.")
