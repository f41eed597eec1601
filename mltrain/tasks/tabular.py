"""`tabular`: a class or a value a row, from columns of numbers and categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.logging import log
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.image_files import first_few
from mltrain.data.loader import Batch
from mltrain.data.tables.column_choice import ColumnChoice, choose_columns, is_quantity
from mltrain.data.tables.columns import Column
from mltrain.data.tables.tabular_dataset import TabularDataset, collate_rows
from mltrain.data.tables.tabular_features import TabularFeatures
from mltrain.models.tabular_models import build_tabular_model
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.tabular_prediction import TabularPredictor
from mltrain.tasks.tabular_sections import TabularDataSection, TabularModelSection
from mltrain.tasks.tabular_targets import ClassTarget, TabularTarget, ValueTarget, target_from_json

__all__ = ["Tabular"]

_KEPT = "features"


@register_task("tabular")
class Tabular(Task):
    """Cross-entropy over classes, or squared error of a value, from the rows of a table."""

    data_section = TabularDataSection
    model_section = TabularModelSection

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, TabularDataSection)
        assert isinstance(config.model, TabularModelSection)
        self._data, self._model = config.data, config.model
        self._choice, kind = self._read_columns()
        is_class = kind == "classification"
        columns = [Column(config.data.target, "data.target", "label" if is_class else "number", target=True)]
        columns += [Column(name, "data.numeric", "number", True) for name in self._choice.numeric]
        columns += [Column(name, "data.categorical", "category", True) for name in self._choice.categorical]
        self._rows = config.data.read_rows(columns, label=config.data.target if is_class else None)
        self._target = self._class_target() if is_class else self._value_target()
        self._features = self._fit()
        seen = f"{len(self._features.numbers)} numeric and {len(self._features.categories)} categorical columns"
        log.info("%s of '%s' from %s.", kind.capitalize(), config.data.target, seen)
        for notice in [*self._choice.remarks, *self._features.notices(), *self._rows.notices()]:
            log.warning("%s", notice)

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have rows."""
        values = {column.name: self._rows.values(column.name) for column in self._features.columns}
        targets = self._rows.values(self._data.target)
        splits = {split: rows.tolist() for split, rows in self._rows.splits.items()}
        return {
            split: TabularDataset(
                {
                    "numbers": self._features.number_array(values, rows),
                    "categories": self._features.category_array(values, rows),
                    **self._target.columns(targets, rows),
                },
                [self._rows.ids[row] for row in rows],
            )
            for split, rows in splits.items()
        }

    def collate(self, items: list[Any]) -> Batch:
        """Return `numbers`, float32 (B, N), `categories`, int64 (B, K), and the target.

        Of a class the target is `labels`, int64 (B,); of a value `targets` and `standard_targets`, float32 (B,).
        """
        return collate_rows(items)

    def build_model(self) -> nn.Module:
        """Return the configured model."""
        return _build(self._model.architecture, self._model.options, self._features, self._target)

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return cross-entropy or squared error per row; the outputs: logits (B, C), or values (B,)."""
        return self._target.losses(model(batch["numbers"], batch["categories"]), batch)

    def metrics(self) -> Metrics:
        """Return the figures of a classification or of a regression."""
        return self._target.metrics(self.config.evaluation.metrics)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted class and its probability, or the predicted value, of each row."""
        return self._target.predictions(outputs)

    def fitted(self) -> dict[str, Any]:
        """Return how columns become inputs."""
        return {_KEPT: self._features.to_json()}

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Use the statistics and categories of the run that is continued."""
        if _KEPT in fitted:
            self._features = TabularFeatures.from_json(fitted[_KEPT])

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all rows with their splits, their counts, and what was fitted to the training rows."""
        return {**self._rows.facts(), "fitted": {_KEPT: self._features.digest()}}

    def data_files(self) -> Iterable[DataFile]:
        """Give the rows of all splits."""
        return self._rows.files()

    def package(self) -> dict[str, Any]:
        """Return the architecture, how columns become inputs, and what the outputs mean."""
        return {
            "architecture": self._model.architecture,
            "options": self._model.options,
            "features": self._features.to_json(),
            "target": {"name": self._data.target, **self._target.to_json()},
        }

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (rows) -> rows of predictions."""
        features, target = TabularFeatures.from_json(package["features"]), target_from_json(package["target"])
        model = _build(package["architecture"], package["options"], features, target)
        return model, TabularPredictor(model, features, target)

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the reports of a classification or of a regression."""
        self._target.write_reports(split, metrics, logs=logs, reports=reports)

    def _read_columns(self) -> tuple[ColumnChoice, str]:
        """Return the columns that the model sees, and what is learned."""
        section, table = self._data, self._data.read_table()
        target = table.column(section.target, "data.target")
        kind = section.kind
        if kind == "auto":
            kind = "regression" if is_quantity(target) else "classification"
        others = {section.split_column, section.group_column()} - {None, section.target}
        choice = choose_columns(
            table,
            target=section.target,
            numeric=section.numeric,
            categorical=section.categorical,
            ignored=section.ignore,
            others=[str(name) for name in others],
        )
        return choice, kind

    def _fit(self) -> TabularFeatures:
        names = [*self._choice.numeric, *self._choice.categorical]
        values = {name: self._rows.values(name) for name in names}
        train = self._rows.splits["train"].tolist()
        features = TabularFeatures.fit(values, train, self._choice.numeric, self._choice.categorical)
        if not features.columns:
            raise DataError(
                f"all columns are the same in all training rows: {first_few(names)}",
                where=self._rows.table.name,
                fix="Add columns that say something of the target.",
            )
        return features

    def _class_target(self) -> ClassTarget:
        return ClassTarget(
            self._rows.classes(),
            positive=self._data.positive_class,
            label_smoothing=self.config.training.label_smoothing,
        )

    def _value_target(self) -> ValueTarget:
        for key, value in (
            ("training.label_smoothing", self.config.training.label_smoothing),
            ("data.positive_class", self._data.positive_class),
        ):
            if value:
                raise ConfigError("is for classes, not for a value", where=key, fix="Leave it out.")
        return ValueTarget.fit(self._rows, self._data.target)


def _build(
    architecture: str, options: Mapping[str, Any], features: TabularFeatures, target: TabularTarget
) -> nn.Module:
    return build_tabular_model(
        architecture,
        num_numbers=features.num_numbers,
        sizes=features.sizes,
        num_outputs=target.num_outputs,
        options=options,
    )
