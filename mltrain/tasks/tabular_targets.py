"""What a table's task predicts: a class or a value. All that differs between the two stands here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.registry import nearest
from mltrain.data.loader import Batch
from mltrain.data.tables.row_splits import RowSplits
from mltrain.data.tables.tabular_features import mean_and_std
from mltrain.tasks.base import Losses, Metrics
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.image_prediction import predicted_classes
from mltrain.tasks.regression_report import write_regression_report
from mltrain.tasks.scored_classification import ScoredClassification
from mltrain.tasks.scored_regression import ScoredRegression

__all__ = ["ClassTarget", "TabularTarget", "ValueTarget", "target_from_json"]


class TabularTarget(ABC):
    """A target that is known from the training rows."""

    num_outputs: int
    """How many outputs the model has."""

    @abstractmethod
    def columns(self, values: Sequence[Any], rows: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return what a batch holds of the target of rows, by name."""

    @abstractmethod
    def losses(self, raw: torch.Tensor, batch: Batch) -> Losses:
        """Return the loss of each example from the model's outputs (B, num_outputs)."""

    @abstractmethod
    def metrics(self, further: Sequence[str]) -> Metrics:
        """Return a new accumulator; `further` are evaluate modules of the user's."""

    @abstractmethod
    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return a row of plain values for each example, from the outputs of `losses` or of `outputs`."""

    @abstractmethod
    def outputs(self, raw: torch.Tensor) -> torch.Tensor:
        """Return what metrics and predictions are made from."""

    @abstractmethod
    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write reports about a split."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `target_from_json` takes."""


class ClassTarget(TabularTarget):
    """A class: cross-entropy.

    Args:
        classes: their names, sorted.
        positive: of two, the one that precision, recall and F1 are of; None: the last.
        label_smoothing: share of each target that is spread over all classes.

    Raises:
        ConfigError: `positive` is none of two classes.
    """

    def __init__(self, classes: Sequence[str], *, positive: str | None = None, label_smoothing: float = 0.0) -> None:
        self.classes, self._positive, self._label_smoothing = list(classes), positive, label_smoothing
        self.num_outputs = len(self.classes)
        if positive is None:
            return
        if len(self.classes) != 2:
            raise ConfigError(
                f"is set, but there are {len(self.classes)} classes: their figures are means over all of them",
                where="data.positive_class",
                fix="Leave it out.",
            )
        if positive not in self.classes:
            close = nearest(positive, self.classes)
            raise ConfigError(
                f"is {positive!r}, which is no class of the data",
                where="data.positive_class",
                fix=f"Did you mean {close!r}?" if close else f"Set it to one of: {', '.join(self.classes)}.",
            )

    def columns(self, values: Sequence[Any], rows: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return `labels`, int64."""
        index = {name: number for number, name in enumerate(self.classes)}
        return {"labels": np.asarray([index[values[row]] for row in rows], dtype=np.int64)}

    def losses(self, raw: torch.Tensor, batch: Batch) -> Losses:
        """Return cross-entropy; the outputs: logits (B, C)."""
        values = F.cross_entropy(raw.float(), batch["labels"], reduction="none", label_smoothing=self._label_smoothing)
        return Losses(values, raw)

    def metrics(self, further: Sequence[str]) -> Metrics:
        """Return accuracy, precision, recall, F1 and AUROC."""
        return ScoredClassification(self.classes, positive=self._positive, further=further)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted class and its probability."""
        return predicted_classes(outputs, self.classes)

    def outputs(self, raw: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return raw

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix."""
        assert isinstance(metrics, ScoredClassification)
        write_classification_report(split, metrics.confusion, self.classes, logs=logs, reports=reports)

    def to_json(self) -> dict[str, Any]:
        """Return the classes."""
        return {"classes": self.classes}


class ValueTarget(TabularTarget):
    """A value: squared error of the target as standardised by the training rows; outputs in its own unit.

    Args:
        mean, std: of the target in the training rows.
    """

    num_outputs = 1

    def __init__(self, mean: float, std: float) -> None:
        self._mean, self._std = mean, std

    @classmethod
    def fit(cls, splits: RowSplits, target: str) -> ValueTarget:
        """Return the target of training rows.

        Raises:
            DataError: it is the same in all of them.
        """
        values = splits.values(target)
        known = [values[row] for row in splits.splits["train"].tolist()]
        if min(known) == max(known):
            raise DataError(
                f"the target '{target}' is {known[0]:g} in all training rows",
                where=splits.table.name,
                fix="Name another column with data.target, or add rows with other values.",
            )
        return cls(*mean_and_std(known))

    def columns(self, values: Sequence[Any], rows: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return `targets` in their own unit and as `standard_targets`, float32."""
        targets = np.asarray([values[row] for row in rows], dtype=np.float64)
        standard = (targets - self._mean) / self._std
        return {"targets": targets.astype(np.float32), "standard_targets": standard.astype(np.float32)}

    def losses(self, raw: torch.Tensor, batch: Batch) -> Losses:
        """Return squared errors, in units of the target's variance; the outputs: values (B,) in its own unit."""
        values = (raw.squeeze(1).float() - batch["standard_targets"]).square()
        return Losses(values, self.outputs(raw))

    def metrics(self, further: Sequence[str]) -> Metrics:
        """Return mean absolute error, root mean squared error and R2."""
        return ScoredRegression(further=further)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted value."""
        return [{"value": value} for value in outputs.float().tolist()]

    def outputs(self, raw: torch.Tensor) -> torch.Tensor:
        """Return values in the target's own unit."""
        return raw.squeeze(1).float() * self._std + self._mean

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the figures as text, and predicted over true values as a picture."""
        assert isinstance(metrics, ScoredRegression)
        write_regression_report(split, metrics, logs=logs, reports=reports)

    def to_json(self) -> dict[str, Any]:
        """Return mean and standard deviation."""
        return {"mean": self._mean, "std": self._std}


def target_from_json(value: Mapping[str, Any]) -> TabularTarget:
    """Return the target that `to_json` described."""
    return ClassTarget(value["classes"]) if "classes" in value else ValueTarget(value["mean"], value["std"])
