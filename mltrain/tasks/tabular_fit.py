"""What is known of a table before training: how its columns become inputs, and what the outputs mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import read_record
from mltrain.data.image_files import first_few
from mltrain.data.tables.row_splits import RowSplits
from mltrain.data.tables.tabular_features import TabularFeatures
from mltrain.tasks.tabular_targets import TabularTarget, ValueTarget, target_from_json

__all__ = ["TabularFit", "features_of_training", "read_fit"]

_KEY = "data.fitted_by"


@dataclass(frozen=True)
class TabularFit:
    """The features of a model and its target."""

    features: TabularFeatures
    target: TabularTarget

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` takes."""
        return {"features": self.features.to_json(), "target": self.target.to_json()}

    def digest(self) -> str:
        """Return one value for all of it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TabularFit:
        """Return what `to_json` described."""
        return cls(TabularFeatures.from_json(value["features"]), target_from_json(value["target"]))


def features_of_training(rows: RowSplits, numeric: Sequence[str], categorical: Sequence[str]) -> TabularFeatures:
    """Return the features of the training rows.

    Raises:
        DataError: every column is the same in all of them.
    """
    names = [*numeric, *categorical]
    values = {name: rows.values(name) for name in names}
    features = TabularFeatures.fit(values, rows.splits["train"].tolist(), numeric, categorical)
    if not features.columns:
        raise DataError(
            f"all columns are the same in all training rows: {first_few(names)}",
            where=rows.table.name,
            fix="Add columns that say something of the target.",
        )
    return features


def read_fit(folder: Path, kind: str) -> TabularFit:
    """Return what a run of this task was fitted with.

    Args:
        folder: of the run, or of its model.
        kind: "classification" or "regression", which that run must have been too.

    Raises:
        ConfigError: it is none.
    """
    facts = read_record(folder / "mltrain.json") or read_record(folder / "model" / "mltrain.json")
    try:
        fit = TabularFit.from_json(facts)
    except (LookupError, TypeError):
        raise ConfigError(
            f"{folder} holds no model of the task tabular", where=_KEY, fix="Name a run, or the model folder of one."
        ) from None
    other = "regression" if isinstance(fit.target, ValueTarget) else "classification"
    if other != kind:
        raise ConfigError(f"{folder} is a {other}, this is a {kind}", where=_KEY, fix="Name another run.")
    return fit
