"""Numbers of a table that a model can take: it computes in float32, which holds fewer than the table's float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mltrain.data.image_files import printable
from mltrain.data.tables.columns import Column, ConvertedColumn
from mltrain.data.tables.sound_rows import RowCheck

__all__ = ["large_number_check", "without_large_numbers"]

_LARGEST = float(np.finfo(np.float32).max)


def large_number_check(columns: Sequence[Column]) -> RowCheck:
    """Return a check of rows, whose columns are converted, for numbers that would be infinite to a model."""
    names = [column.name for column in columns if column.kind == "number"]

    def check(row: Mapping[str, Any]) -> str | None:
        for name in names:
            value = row[name]
            if value is not None and not -_LARGEST <= value <= _LARGEST:
                return _problem(name, value)
        return None

    return check


def without_large_numbers(converted: ConvertedColumn, column: Column) -> ConvertedColumn:
    """Return a converted column with a problem for each number that would be infinite to a model."""
    if column.kind != "number":
        return converted
    large = {
        row: _problem(column.name, value)
        for row, value in enumerate(converted.values)
        if value is not None and not -_LARGEST <= value <= _LARGEST
    }
    return replace(converted, problems=converted.problems | large) if large else converted


def _problem(name: str, value: float) -> str:
    return (
        f"the column '{printable(name)}' has {value!r}, which is no finite number of float32 (at most {_LARGEST:.2g}). "
        "Mend it, or scale the column."
    )
