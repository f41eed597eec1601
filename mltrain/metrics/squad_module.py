"""SQuAD's figures as an `evaluate.Metric`. Imports evaluate: import it where figures are wanted, not before."""

from __future__ import annotations

import datasets

from mltrain.metrics.own_module import OwnModule
from mltrain.metrics.squad import exact_match, f1

__all__ = ["Squad"]


class Squad(OwnModule):
    """Means of `exact_match` and `f1`: see `metrics.squad`. NaN without examples."""

    text = "Exact match and F1 of answers, as SQuAD defines them, as shares from 0 to 1."

    def _features(self) -> datasets.Features:
        return datasets.Features(
            {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        count = len(pairs) or float("nan")
        return {
            "exact_match": sum(exact_match(*pair) for pair in pairs) / count,
            "f1": sum(f1(*pair) for pair in pairs) / count,
        }
