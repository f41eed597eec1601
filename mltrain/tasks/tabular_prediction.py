"""Predicting with a packed model of rows: from a table, or rows as dicts, to rows of predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mltrain.core.errors import DataError
from mltrain.core.registry import nearest
from mltrain.data.image_files import printable
from mltrain.data.tables.columns import Column, ConvertedColumn, convert, convert_texts
from mltrain.data.tables.sound_rows import row_problems
from mltrain.data.tables.table import read_table
from mltrain.data.tables.tabular_features import TabularFeatures
from mltrain.tasks.tabular_numbers import without_large_numbers
from mltrain.tasks.tabular_targets import TabularTarget

__all__ = ["TabularPredictor"]

_MOST_AT_ONCE = 4096
_FIX = "Give the path of a table, a dict of column -> value, a list of such dicts, or a DataFrame."


class TabularPredictor:
    """Predicts the target of rows.

    Args:
        model: predictions are made with whatever weights it holds, on the device it is on.
        features: what the model takes.
        target: what its outputs mean.
    """

    def __init__(self, model: nn.Module, features: TabularFeatures, target: TabularTarget) -> None:
        self._model, self._features, self._target = model, features, target
        self._columns = [Column(column.name, "predict", "number", True) for column in features.numbers]
        self._columns += [Column(column.name, "predict", "category", True) for column in features.categories]

    def __call__(self, rows: Any) -> list[dict[str, Any]]:
        """Return one row for each: {"class": name, "probability": share}, or {"value": number}.

        Args:
            rows: the path of a table; a dict of column -> value; a sequence of such dicts; or a DataFrame. Values are
                converted as those of a table are; None is a missing one. Columns that the model does not take may be
                there.

        Raises:
            DataError: something else was given, a column is not there, or a value is no number where one is needed.
        """
        values, count = self._of_table(Path(rows)) if isinstance(rows, str | PathLike) else self._of_dicts(rows)
        predicted: list[dict[str, Any]] = []
        for start in range(0, count, _MOST_AT_ONCE):
            predicted += self._predicted(values, range(start, min(count, start + _MOST_AT_ONCE)))
        return predicted

    def _of_table(self, file: Path) -> tuple[dict[str, Sequence[Any]], int]:
        table = read_table(file)
        if lacking := [column.name for column in self._columns if column.name not in table.columns]:
            raise DataError(
                f"has no column '{printable(lacking[0])}', which the model takes",
                where=printable(str(file)),
                fix="Give a table with the columns that the model was trained on.",
            )
        converted = {column.name: without_large_numbers(convert(table, column), column) for column in self._columns}
        wrong = {row: problem for column in converted.values() for row, problem in column.problems.items()}
        if problems := row_problems(table, wrong):
            raise DataError(problems[0], problems=problems)
        return {name: column.values for name, column in converted.items()}, len(table)

    def _of_dicts(self, rows: Any) -> tuple[dict[str, Sequence[Any]], int]:
        given = [rows] if isinstance(rows, Mapping) else rows
        if hasattr(given, "columns") and hasattr(given, "to_dict"):  # a table of pandas
            given = given.to_dict("records")
        if not isinstance(given, Sequence) or not all(isinstance(row, Mapping) for row in given):
            raise DataError(f"cannot predict from a value of type {type(rows).__name__}", where="predict", fix=_FIX)
        values: dict[str, Sequence[Any]] = {}
        for column in self._columns:
            converted = convert_texts(
                [_text(_entry(row, column.name, number)) for number, row in enumerate(given)], column
            )
            _refuse(without_large_numbers(converted, column))
            values[column.name] = converted.values
        return values, len(given)

    @torch.inference_mode()
    def _predicted(self, values: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> list[dict[str, Any]]:
        device = next(self._model.parameters()).device
        numbers = torch.from_numpy(self._features.number_array(values, rows)).to(device)
        categories = torch.from_numpy(self._features.category_array(values, rows)).to(device)
        return self._target.predictions(self._target.outputs(self._model(numbers, categories)))


def _entry(row: Mapping[str, Any], name: str, number: int) -> Any:
    if name in row:
        return row[name]
    close = nearest(name, [str(key) for key in row])
    hint = f"Did you mean it by {close!r}? " if close else ""
    raise DataError(
        f"row {number} has no {name!r}", where="predict", fix=f"{hint}Give a value, or None where it is missing."
    )


def _refuse(converted: ConvertedColumn) -> None:
    for row, problem in converted.problems.items():
        raise DataError(f"row {row}: {problem}", where="predict")


def _text(value: Any) -> str | None:
    """Return a value as the text that pandas would write into CSV."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, str) else str(value)
