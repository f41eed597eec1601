"""What rows are stratified by: their labels, or bins of equal size where labels are numbers of many values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mltrain.core.errors import ConfigError
from mltrain.data.image_files import printable
from mltrain.data.tables.columns import convert_number

__all__ = ["Strata", "strata_of"]

_USUAL_BINS = 10
_MOST_CLASSES = 20


class Strata(NamedTuple):
    """The stratum of each row, and how many bins there are; None where each label is a stratum."""

    names: list[str]
    bins: int | None


def strata_of(labels: Sequence[str], *, parts: int, bins: int | None) -> Strata:
    """Return the strata of rows; they depend on the labels alone, not on their order.

    Labels are binned if all are numbers, more than 20 of them differ, and on average a label is on fewer rows than
    there are parts.

    Args:
        labels: of each row.
        parts: into how many parts the rows will be cut.
        bins: how many bins; None: at most 10, so that each has two rows a part.

    Raises:
        ConfigError: bins are asked for and a label is no number.
    """
    numbers = [convert_number(label)[0] for label in labels]
    foreign = next((label for label, number in zip(labels, numbers, strict=True) if number is None), None)
    if foreign is not None:
        if bins is not None:
            raise ConfigError(
                f"is for numbers; '{printable(foreign)}' is a label",
                where="--bins",
                fix="Leave it out: labels are strata.",
            )
        return Strata(list(labels), None)
    different = len(set(numbers))
    if bins is None:
        if different <= _MOST_CLASSES or len(labels) >= different * parts:
            return Strata(list(labels), None)
        bins = max(1, min(_USUAL_BINS, len(labels) // (2 * parts)))
    return _binned(np.asarray(numbers, dtype=np.float64), bins)


def _binned(values: np.ndarray[tuple[int], np.dtype[np.float64]], bins: int) -> Strata:
    inner = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    # A value that makes up more than a bin's share fills one of its own.
    place = np.unique(np.searchsorted(np.unique(inner), values, side="left"), return_inverse=True)[1]
    names = []
    for number in range(int(place.max()) + 1):
        members = values[place == number]
        names.append(f"bin {number + 1:02d}: {members.min():g} to {members.max():g}")
    return Strata([names[number] for number in place], bins)
