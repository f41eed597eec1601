"""From values of columns to what a tabular model takes; fitted on the training rows alone.

A number is standardised by the mean and the standard deviation of the training rows; a missing one stands at the mean,
and a column that lacks values in training has a second one that says so. A category is a number from 1; 0 is for those
that training did not have, and missing ones have a number of their own where training has some.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.data.image_files import first_few

__all__ = ["CategoryColumn", "NumberColumn", "TabularFeatures", "mean_and_std"]

UNSEEN = 0
Values = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class NumberColumn:
    """A numeric column. indicator: whether a second number says that a value is missing."""

    name: str
    mean: float
    std: float
    indicator: bool


@dataclass(frozen=True)
class CategoryColumn:
    """A categorical column. categories: those of training, sorted. missing: whether training lacks values."""

    name: str
    categories: tuple[str, ...]
    missing: bool

    @property
    def size(self) -> int:
        """How many numbers stand for its categories, that of unseen ones included."""
        return 1 + len(self.categories) + self.missing


@dataclass(frozen=True)
class TabularFeatures:
    """The columns that a model takes, in the order of its inputs.

    constant: columns that are the same in all training rows; they are left out.
    """

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]
    constant: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, values: Values, rows: Sequence[int], numeric: Sequence[str], categorical: Sequence[str]
    ) -> TabularFeatures:
        """Return the features of training rows.

        Args:
            values: column -> values by number of the row; None where there is none.
            rows: the training rows.
            numeric, categorical: the columns.
        """
        of_training = {name: [values[name][row] for row in rows] for name in (*numeric, *categorical)}
        constant = tuple(name for name, column in of_training.items() if len(set(column)) < 2)
        return cls(
            tuple(_number_column(name, of_training[name]) for name in numeric if name not in constant),
            tuple(_category_column(name, of_training[name]) for name in categorical if name not in constant),
            constant,
        )

    @property
    def columns(self) -> list[NumberColumn | CategoryColumn]:
        """The columns of the table that the model takes."""
        return [*self.numbers, *self.categories]

    @property
    def num_numbers(self) -> int:
        """How many numbers a row has for the model, those that say what is missing included."""
        return len(self.numbers) + sum(column.indicator for column in self.numbers)

    @property
    def sizes(self) -> list[int]:
        """How many categories each categorical column has for the model."""
        return [column.size for column in self.categories]

    def number_array(self, values: Values, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the numbers of rows, shape (rows, num_numbers): the standardised values, then what says of missing."""
        columns = []
        for column in self.numbers:
            given = values[column.name]
            known = np.asarray([math.nan if (value := given[row]) is None else value for row in rows], dtype=np.float64)
            columns.append((known - column.mean) / column.std)
        missing = [
            np.isnan(standard) for column, standard in zip(self.numbers, columns, strict=True) if column.indicator
        ]
        table = np.stack([*map(np.nan_to_num, columns), *missing], axis=1) if columns else np.empty((len(rows), 0))
        return table.astype(np.float32)

    def category_array(self, values: Values, rows: Sequence[int]) -> NDArray[np.int64]:
        """Return the numbers of the categories of rows, shape (rows, columns)."""
        table = np.empty((len(rows), len(self.categories)), dtype=np.int64)
        for place, column in enumerate(self.categories):
            index: dict[str | None, int] = {name: number for number, name in enumerate(column.categories, start=1)}
            if column.missing:
                index[None] = len(column.categories) + 1
            given = values[column.name]
            table[:, place] = [index.get(given[row], UNSEEN) for row in rows]
        return table

    def notices(self) -> list[str]:
        """Return what was left out, in a sentence."""
        if not self.constant:
            return []
        columns = "1 column is" if len(self.constant) == 1 else f"{len(self.constant)} columns are"
        return [f"{columns} left out, the same in all training rows: {first_few(self.constant)}."]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` takes."""
        value: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TabularFeatures:
        """Return the features that `to_json` described."""
        return cls(
            tuple(NumberColumn(**column) for column in value["numbers"]),
            tuple(
                CategoryColumn(column["name"], tuple(column["categories"]), column["missing"])
                for column in value["categories"]
            ),
            tuple(value["constant"]),
        )


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation (over N); 1 where all values are equal. The order does not matter."""
    if min(values) == max(values):
        return values[0], 1.0
    # A power of two rounds nothing; without it squares of large values would overflow, those of small ones vanish.
    exponent = math.frexp(max(map(abs, values)))[1]
    scaled = [math.ldexp(value, -exponent) for value in values]
    mean = math.fsum(scaled) / len(scaled)
    variance = math.fsum((value - mean) ** 2 for value in scaled) / len(scaled)
    return math.ldexp(mean, exponent), math.ldexp(math.sqrt(variance), exponent)


def _number_column(name: str, values: Sequence[float | None]) -> NumberColumn:
    known = [value for value in values if value is not None]
    return NumberColumn(name, *mean_and_std(known), indicator=len(known) < len(values))


def _category_column(name: str, values: Sequence[str | None]) -> CategoryColumn:
    known = {value for value in values if value is not None}
    return CategoryColumn(name, tuple(sorted(known)), None in values)
