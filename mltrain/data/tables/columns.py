"""What a task takes of a table: named columns, and how their texts become values.

| kind | value | missing |
|---|---|---|
| text | the text as it stands, blanks, quotes and line breaks included | nothing but blanks |
| label | the text without the blanks around it: `1` and `01` are two labels | also nan and <na> |
| category | as label | also nan and <na> |
| number | a finite float | also the words that pandas reads as missing: NA, null, None, ... |
| position | an integer; 12.0, which pandas makes of 12 in a column with missing values, is 12 | as number |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mltrain.data.image_files import is_one_line, printable
from mltrain.data.tables.plain_numbers import plain_numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from mltrain.data.tables.table import Table

__all__ = [
    "Column",
    "ConvertedColumn",
    "TextValues",
    "convert",
    "convert_number",
    "convert_texts",
    "is_all_numbers",
    "is_missing_number",
]

ColumnKind = Literal["text", "label", "number", "category", "position"]

_LONGEST_LABEL = 1000
_NO_LABEL = {"", "nan", "<na>"}
_NO_NUMBER = {"", "nan", "-nan", "<na>", "na", "n/a", "#n/a", "null", "none", "nil", "?", "-"}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)


@dataclass(frozen=True)
class Column:
    """A column that a task needs.

    name: as the table has it.
    key: the configuration key that names it, for errors: "data.label_column".
    kind: what its texts become: see above.
    may_be_missing: a missing value is None; otherwise it makes the row a bad one.
    target: it is what the model is to say, so that rows equal in all others are copies. Positions are targets too.
    """

    name: str
    key: str
    kind: ColumnKind
    may_be_missing: bool = False
    target: bool = False


class TextValues(Sequence[str | None]):
    """The texts of a column by number of the row, read from the memory-mapped table when they are asked for."""

    def __init__(self, array: pa.ChunkedArray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        text: str | None = self._array[int(row)].as_py()
        return text if text is not None and text.strip() else None


@dataclass(frozen=True)
class ConvertedColumn:
    """Values by number of the row; None where there is none, and in the rows of `problems`.

    problems: row -> what is wrong with it and what to do.
    """

    values: Sequence[Any]
    problems: dict[int, str]


def convert(table: Table, column: Column) -> ConvertedColumn:
    """Return the values of a column.

    Raises:
        DataError: there is no such column.
    """
    array = table.array(column.name, column.key)
    if column.kind == "text":
        return ConvertedColumn(TextValues(array), {} if column.may_be_missing else _blank_rows(array, column.name))
    if column.kind == "number":
        numbers = plain_numbers(array, _NO_NUMBER)
        if numbers is not None and (column.may_be_missing or None not in numbers):
            return ConvertedColumn(numbers, {})
    return convert_texts(array.to_pylist(), column)


def is_all_numbers(table: Table, name: str, key: str) -> bool:
    """Return whether a column holds plain numbers and gaps alone, and a number at all; where it is not sure: False."""
    numbers = plain_numbers(table.array(name, key), _NO_NUMBER)
    return numbers is not None and any(number is not None for number in numbers)


def convert_texts(texts: Sequence[str | None], column: Column) -> ConvertedColumn:
    """Return the values of texts, as `convert` returns those of a column; `column` is none of texts."""
    one = _ONE[column.kind]
    values: list[Any] = []
    problems: dict[int, str] = {}
    for row, text in enumerate(texts):
        value, problem = one(text)
        if value is None and problem is None and not column.may_be_missing:
            problem = _missing(text)
        if problem is not None:
            problems[row] = _of_column(column.name, problem)
        values.append(value)
    return ConvertedColumn(values, problems)


def is_missing_number(text: str | None) -> bool:
    """Return whether a text stands for a number that is not known."""
    return text is None or text.strip().lower() in _NO_NUMBER


def _blank_rows(array: pa.ChunkedArray, name: str) -> dict[int, str]:
    import numpy as np
    import pyarrow.compute as pc

    blank = pc.equal(pc.fill_null(pc.utf8_trim_whitespace(array), ""), "")
    return {int(row): _of_column(name, _missing(None)) for row in np.flatnonzero(blank.to_numpy())}


def _missing(text: str | None) -> str:
    shown = "no value" if text is None or not text.strip() else f"'{printable(text.strip())}'"
    return f"has {shown}. Fill it in, or take the row out."


def _of_column(name: str, problem: str) -> str:
    return f"the column '{printable(name)}' {problem}"


_Converted = tuple[Any, str | None]


def _label(text: str | None) -> _Converted:
    value = "" if text is None else text.strip()
    if value.lower() in _NO_LABEL:
        return None, None
    if len(value) > _LONGEST_LABEL:
        return None, f"has a value of {len(value)} characters. Mend it, or the quotes around it."
    if not is_one_line(value) or not value.isprintable():
        return None, f"has '{printable(value)}', with line breaks or control characters. Remove them."
    return value, None


def convert_number(text: str | None) -> tuple[Any, str | None]:
    """Return a text as a finite number, None where it stands for a missing one, and what is wrong with it."""
    if is_missing_number(text):
        return None, None
    assert text is not None
    value = text.strip()
    number = float(value) if _NUMBER.fullmatch(value) else math.nan
    if math.isfinite(number):
        return number, None
    shown = printable(value[:40])
    if _DECIMAL_COMMA.fullmatch(value):
        return None, f"has '{shown}'. Write a point for the decimal comma."
    return None, f"has '{shown}', which is no finite number. Mend it, or leave it empty."


def _position(text: str | None) -> _Converted:
    number, problem = convert_number(text)
    if number is None or number.is_integer():
        return None if number is None else int(number), problem
    return None, f"has '{printable(str(text).strip()[:40])}', which is no whole number. Mend it."


_ONE: dict[str, Callable[[str | None], _Converted]] = {
    "label": _label,
    "category": _label,
    "number": convert_number,
    "position": _position,
}
