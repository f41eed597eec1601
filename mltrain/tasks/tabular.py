"""`tabular`: a class or a value a row, from columns of numbers and categories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.tables.column_choice import ColumnChoice, choose_columns, is_quantity
from mltrain.data.tables.columns import Column
from mltrain.data.tables.row_splits import RowSplits
from mltrain.data.tables.table import Table
from mltrain.data.tables.tabular_dataset import TabularDataset, collate_rows
from mltrain.models.tabular_models import build_tabular_model
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.tabular_fit import TabularFit, features_of_training, read_fit
from mltrain.tasks.tabular_numbers import large_number_check
from mltrain.tasks.tabular_prediction import TabularPredictor
from mltrain.tasks.tabular_sections import TabularDataSection, TabularModelSection
from mltrain.tasks.tabular_targets import ClassTarget, TabularTarget, ValueTarget

__all__ = ["Tabular"]

_KEPT = "features"


@register_task("tabular")
class Tabular(Task):
    """Cross-entropy over classes, or squared error of a value, from the rows of a table."""

    data_section = TabularDataSection
    model_section = TabularModelSection
    takes_evaluation_modules: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, TabularDataSection)
        assert isinstance(config.model, TabularModelSection)
        self._data, self._model = config.data, config.model
        table = config.data.read_table()
        kind = self._kind(table)
        given = None if config.data.fitted_by is None else read_fit(Path(config.data.fitted_by), kind)
        choice = self._choose(table, given)
        self._rows = self._read_rows(choice, kind)
        self._fit = self._fitted_to(choice, kind, given)
        features = self._fit.features
        seen = f"{len(features.numbers)} numeric and {len(features.categories)} categorical columns"
        log.info("%s of '%s' from %s.", kind.capitalize(), config.data.target, seen)
        for notice in [*choice.remarks, *features.notices(), *self._rows.notices()]:
            log.warning("%s", notice)

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have rows."""
        values = {column.name: self._rows.values(column.name) for column in self._fit.features.columns}
        targets = self._rows.values(self._data.target)
        splits = {split: rows.tolist() for split, rows in self._rows.splits.items()}
        return {
            split: TabularDataset(
                {
                    "numbers": self._fit.features.number_array(values, rows),
                    "categories": self._fit.features.category_array(values, rows),
                    **self._fit.target.columns(targets, rows),
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
        return _build(self._model.architecture, self._model.options, self._fit)

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return cross-entropy or squared error per row; the outputs: logits (B, C), or values (B,)."""
        return self._fit.target.losses(model(batch["numbers"], batch["categories"]), batch)

    def metrics(self) -> Metrics:
        """Return the figures of a classification or of a regression."""
        return self._fit.target.metrics(self.config.evaluation.metrics)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted class and its probability, or the predicted value, of each row."""
        return self._fit.target.predictions(outputs)

    def fitted(self) -> dict[str, Any]:
        """Return how columns become inputs and the scale of the target; nothing where another run gave them."""
        return {} if self._data.fitted_by is not None else {_KEPT: self._fit.to_json()}

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Use the statistics and categories of the run that is continued."""
        if _KEPT in fitted:
            kept = TabularFit.from_json(fitted[_KEPT])
            is_value = isinstance(kept.target, ValueTarget)
            self._fit = TabularFit(kept.features, kept.target if is_value else self._fit.target)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all rows with their splits, their counts, and what was fitted to the training rows."""
        return {**self._rows.facts(), "fitted": {_KEPT: self._fit.digest()}}

    def data_files(self) -> Iterable[DataFile]:
        """Give the rows of all splits."""
        return self._rows.files()

    def package(self) -> dict[str, Any]:
        """Return the architecture, how columns become inputs, and what the outputs mean."""
        return {
            "architecture": self._model.architecture,
            "options": self._model.options,
            "target_column": self._data.target,
            **self._fit.to_json(),
        }

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (rows) -> rows of predictions."""
        fit = TabularFit.from_json(package)
        model = _build(package["architecture"], package["options"], fit)
        return model, TabularPredictor(model, fit.features, fit.target)

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the reports of a classification or of a regression."""
        self._fit.target.write_reports(split, metrics, logs=logs, reports=reports)

    def _kind(self, table: Table) -> str:
        """Return what is learned: "classification" or "regression"."""
        target = table.column(self._data.target, "data.target")
        if self._data.kind != "auto":
            return self._data.kind
        return "regression" if is_quantity(target) else "classification"

    def _choose(self, table: Table, given: TabularFit | None) -> ColumnChoice:
        """Return the columns that the model sees."""
        section = self._data
        if given is not None:
            numbers, categories = given.features.numbers, given.features.categories
            return ColumnChoice([column.name for column in numbers], [column.name for column in categories], [])
        others = {section.split_column: "", section.group_column(): "it says which rows belong together"}
        return choose_columns(
            table,
            target=section.target,
            numeric=section.numeric,
            categorical=section.categorical,
            ignored=section.ignore,
            others={name: why for name, why in others.items() if name is not None},
        )

    def _read_rows(self, choice: ColumnChoice, kind: str) -> RowSplits:
        target, is_class = self._data.target, kind == "classification"
        columns = [Column(target, "data.target", "label" if is_class else "number", target=True)]
        columns += [Column(name, "data.numeric", "number", True) for name in choice.numeric]
        columns += [Column(name, "data.categorical", "category", True) for name in choice.categorical]
        check = large_number_check(columns)
        return self._data.read_rows(columns, label=target if is_class else None, check=check)

    def _fitted_to(self, choice: ColumnChoice, kind: str, given: TabularFit | None) -> TabularFit:
        smoothing, positive = self.config.training.label_smoothing, self._data.positive_class
        if kind == "classification":
            target: TabularTarget = ClassTarget(self._rows.classes(), positive=positive, label_smoothing=smoothing)
        else:
            for key, value in (("training.label_smoothing", smoothing), ("data.positive_class", positive)):
                if value:
                    raise ConfigError("is for classes, not for a value", where=key, fix="Leave it out.")
            target = given.target if given is not None else ValueTarget.fit(self._rows, self._data.target)
        if given is not None:
            return TabularFit(given.features, target)
        return TabularFit(features_of_training(self._rows, choice.numeric, choice.categorical), target)


def _build(architecture: str, options: Mapping[str, Any], fit: TabularFit) -> nn.Module:
    return build_tabular_model(
        architecture,
        num_numbers=fit.features.num_numbers,
        sizes=fit.features.sizes,
        num_outputs=fit.target.num_outputs,
        options=options,
    )
