"""Which columns of a table a model sees, as numbers or as categories: as named, or by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mltrain.core.errors import ConfigError
from mltrain.data.image_files import first_few, printable
from mltrain.data.tables.columns import convert_number, is_all_numbers, is_missing_number
from mltrain.data.tables.table import Table

__all__ = ["ColumnChoice", "ColumnNames", "choose_columns", "is_quantity"]

ColumnNames = Literal["auto"] | Sequence[str]

_NUMBERS_OF_A_COLUMN = 0.95
_FEW_CATEGORIES = 100
_MOST_CLASSES = 20
_SHARE_OF_CATEGORIES = 0.2


@dataclass(frozen=True)
class ColumnChoice:
    """The columns that a model sees, in the order of the table.

    remarks: what was left out and why, a sentence each.
    """

    numeric: list[str]
    categorical: list[str]
    remarks: list[str]


def choose_columns(
    table: Table,
    *,
    target: str,
    numeric: ColumnNames,
    categorical: ColumnNames,
    ignored: Sequence[str],
    others: Mapping[str, str],
) -> ColumnChoice:
    """Return the columns of a table that a model sees.

    With "auto" a column that is not named elsewhere is numeric where at least 95 % of its values are numbers (the
    others make their rows bad ones), and otherwise categorical, unless it has more than 100 different values on more
    than a fifth of its rows: free text, or IDs.

    Args:
        table: the table.
        target: the column that is to be predicted.
        numeric, categorical: names, or "auto".
        ignored: columns that the user does not want.
        others: columns that "auto" does not take -> why; "" where that needs no remark.

    Raises:
        ConfigError: a column is named twice, or there is none to see.
        DataError: there is no such column.
    """
    named: dict[str, Sequence[str]] = {"data.numeric": [] if numeric == "auto" else numeric}
    named["data.categorical"] = [] if categorical == "auto" else categorical
    _refuse_clashes(table, {"data.target": [target], "data.ignore": ignored, **named})
    taken = {name: key for key, names in named.items() for name in names}
    remarks: list[str] = []
    for name in table.columns:
        if name in taken or name == target or name in ignored:
            continue
        if name in others:
            remarks += [f"The column '{printable(name)}' is left out: {others[name]}."] if others[name] else []
            continue
        key, remark = _by_content(table, name)
        remarks += [remark] if remark else []
        if key is not None and (numeric if key == "data.numeric" else categorical) == "auto":
            taken[name] = key
    if not taken:
        raise ConfigError(
            "there is no column to predict from", where="data.numeric", fix="Name some, or leave fewer out."
        )
    places = sorted(taken, key=table.columns.index)
    numbers, categories = (
        [name for name in places if taken[name] == key] for key in ("data.numeric", "data.categorical")
    )
    return ColumnChoice(numbers, categories, remarks)


def is_quantity(texts: Sequence[str | None]) -> bool:
    """Return whether a target is a value, not a class: numbers, of more than 20 different values or with fractions."""
    known = {text for text in texts if not is_missing_number(text)}
    numbers = {convert_number(text)[0] for text in known}
    if not numbers or None in numbers:
        return False
    return len(numbers) > _MOST_CLASSES or any(not number.is_integer() for number in numbers)


def _by_content(table: Table, name: str) -> tuple[str | None, str | None]:
    """Return the key that a column belongs under, or None and why there is none."""
    if is_all_numbers(table, name, "data"):
        return "data.numeric", None
    texts = table.column(name, "data")
    known = [text for text in texts if not is_missing_number(text)]
    if not known:
        return None, f"The column '{printable(name)}' is left out: it has no values."
    if sum(convert_number(text)[0] is not None for text in known) >= _NUMBERS_OF_A_COLUMN * len(known):
        return "data.numeric", None
    different = len(set(known))
    if different > _FEW_CATEGORIES and different > _SHARE_OF_CATEGORIES * len(known):
        return None, (
            f"The column '{printable(name)}' is left out: {different} different texts on {len(known)} rows. "
            "data.categorical takes it all the same."
        )
    return "data.categorical", None


def _refuse_clashes(table: Table, named: dict[str, Sequence[str]]) -> None:
    home: dict[str, str] = {}
    for key, names in named.items():
        for name in names:
            table.array(name, key)
            if name in home:
                raise ConfigError(
                    f"names the column {name!r}, which {home[name]} names too",
                    where=key,
                    fix=f"Name each column once; columns: {first_few(table.columns, 8)}.",
                )
            home[name] = key
