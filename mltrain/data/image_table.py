"""A table of images and their labels (CSV or TSV), read and checked row by row.

Values are texts, without the blanks around them: `1` and `"1"` are one label, `01` is another. Paths are relative to
the data folder and stay inside it, links included.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mltrain.core.errors import DataError
from mltrain.core.registry import nearest
from mltrain.data.image_files import IMAGE_SUFFIXES, first_few, is_one_line, printable
from mltrain.data.labelled_splits import split_called
from mltrain.data.listed_files import FileCheck

__all__ = ["ImageTable", "TableColumns", "TableRow", "read_image_table"]

_SHOWN_PROBLEMS = 10
_TAB_SUFFIXES = {".tsv", ".tab"}
_LONGEST_VALUE = 1000
_NOT_A_VALUE = {"", "nan", "<na>"}


@dataclass(frozen=True)
class TableColumns:
    """The names of the columns. group: what must stay on one side of a split. split: train, val or test."""

    path: str = "path"
    label: str = "label"
    group: str | None = None
    split: str | None = None


class TableRow(NamedTuple):
    """One image. path: relative to the data folder. line: where the row begins in the file, from 1."""

    path: str
    label: str
    group: str
    split: str
    line: int


@dataclass(frozen=True)
class ImageTable:
    """The rows of a table, in its order; `root` is the data folder."""

    file: Path
    root: Path
    columns: TableColumns
    rows: list[TableRow]

    @cached_property
    def labels(self) -> dict[str, str]:
        """Path -> label."""
        return {row.path: row.label for row in self.rows}


def read_image_table(file: Path, root: Path, columns: TableColumns) -> ImageTable:
    """Read a table whose first line names its columns.

    The delimiter is a tab in files called .tsv or .tab; otherwise the one of comma, semicolon and tab that the first
    line has most of. Lines without any value are passed over.

    Raises:
        DataError: the file cannot be read or lacks a column; or rows have no label, no file inside `root` or one that
            another row names: up to ten such problems are told, each with its line.
    """
    lines = _lines(file)
    header = next(lines, None)
    if header is None:
        raise DataError("the table is empty", where=printable(str(file)), fix="Begin it with a line of column names.")
    places = [_place(file, header, name, option) for name, option in _named(columns)]
    reader = _Rows(file, root, columns)
    for line, values in lines:
        reader.add(line, len(header[1]), [values[place] if place < len(values) else "" for place in places], values)
    reader.refuse_problems()
    if not reader.rows:
        raise DataError("the table has no rows", where=printable(str(file)), fix="Add a row for each image.")
    return ImageTable(file, root, columns, reader.rows)


class _Rows:
    """Takes in rows; what is wrong with them is collected, so that one message can name all of it."""

    def __init__(self, file: Path, root: Path, columns: TableColumns) -> None:
        self.rows: list[TableRow] = []
        self._problems: list[str] = []
        self._file, self._columns = printable(str(file)), columns
        self._names = [name for name, _ in _named(columns)]
        self._check = FileCheck(root)
        self._seen: dict[str, TableRow] = {}

    def add(self, line: int, width: int, values: Sequence[str], fields: Sequence[str]) -> None:
        """Take one row: the values of the columns that `_named` gives, and all its fields."""
        named = dict(zip(self._names, values, strict=True))
        problem = self._wrong_width(width, fields) or self._wrong_value(named)
        path = named[self._columns.path]
        if problem is None:
            problem = self._check(path)
            path = posixpath.normpath(path)
        if problem is None and path in self._seen:
            problem = self._repeated(path, named[self._columns.label])
        if problem is not None:
            self._problems.append(f"{self._file}:{line}: {problem}")
            return
        columns = self._columns
        group = named[columns.group] if columns.group else ""
        split = split_called(named[columns.split]) if columns.split else ""
        row = TableRow(path, named[columns.label], group, split or "", line)
        self._seen[path] = row
        self.rows.append(row)

    def refuse_problems(self) -> None:
        """Raise for everything that was wrong."""
        if self._problems:
            shown = self._problems[:_SHOWN_PROBLEMS]
            if more := len(self._problems) - len(shown):
                shown.append(f"{self._file}: {more} more {'row has a problem' if more == 1 else 'rows have problems'}.")
            raise DataError(shown[0], problems=shown)

    def _wrong_width(self, width: int, fields: Sequence[str]) -> str | None:
        if len(fields) <= width:
            return None
        return f"the row has {len(fields)} fields, the first line has {width}. Put values with delimiters in quotes."

    def _wrong_value(self, named: dict[str, str]) -> str | None:
        for name, value in named.items():
            if value.lower() in _NOT_A_VALUE:
                shown = f"'{value}'" if value else "no value"
                return f"the column '{printable(name)}' has {shown}. Fill it in, or take the row out."
            if len(value) > _LONGEST_VALUE:
                return (
                    f"the column '{printable(name)}' has a value of {len(value)} characters. "
                    "Mend it, or the quotes around it."
                )
            if not is_one_line(value) or not value.isprintable():
                return f"'{printable(value)}' holds line breaks or control characters. Remove them."
        split = self._columns.split
        if split is not None and split_called(named[split]) is None:
            return f"'{printable(named[split])}' is no split. Write train, val or test."
        return None

    def _repeated(self, path: str, label: str) -> str:
        first = self._seen[path]
        if first.label == label:
            return f"'{printable(path)}' stands in line {first.line} already. Remove one of the rows."
        return (
            f"'{printable(path)}' is labelled '{printable(label)}' here and '{printable(first.label)}' in line "
            f"{first.line}. Remove one of the rows."
        )


def _named(columns: TableColumns) -> list[tuple[str, str]]:
    """Return (name, what names it) of each column that is wanted."""
    options = (
        (
            columns.path,
            "--path_column in ml-split and data.path_column in the configuration; rows without images are split by "
            "ml-split --label",
        ),
        (columns.label, "--label_column in ml-split and data.label_column in the configuration"),
        (columns.group, "--group_column"),
        (columns.split, "data.split_column"),
    )
    return [(name, option) for name, option in options if name is not None]


def _place(file: Path, header: tuple[int, list[str]], name: str, option: str) -> int:
    line, names = header
    where = f"{printable(str(file))}:{line}"
    if names.count(name) > 1:
        raise DataError(f"{names.count(name)} columns are called '{printable(name)}'", where=where, fix="Rename them.")
    if name in names:
        return names.index(name)
    if any(posixpath.splitext(value)[1].lower() in IMAGE_SUFFIXES for value in names):
        raise DataError(
            f"the first line names no columns, but an image: {first_few(names)}",
            where=where,
            fix="Put a line of column names above it, such as path,label.",
        )
    folded = {known.lower(): known for known in names}
    close = folded.get(name.lower()) or nearest(name, names) or next((n for n in names if name in n.lower()), None)
    hint = f"Did you mean '{printable(close)}'? " if close else ""
    raise DataError(
        f"there is no column '{printable(name)}'; columns: {first_few(names, 8)}",
        where=where,
        fix=f"{hint}Name the column with {option}.",
    )


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line in which a row begins, and its fields, for rows that have any value."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause, fix = "not UTF-8", "Save it as CSV in UTF-8."
        if isinstance(error, OSError):
            cause, fix = str(error.strerror), "Give the path of a CSV or TSV file that may be read."
        raise DataError(f"the table cannot be read ({cause})", where=printable(str(file)), fix=fix) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(file, text), strict=True)
    begin = 1
    try:
        for fields in reader:
            values = [field.strip() for field in fields]
            if any(values):
                yield begin, values
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"the row cannot be read ({error})",
            where=f"{printable(str(file))}:{begin}",
            fix="Mend its quotes: a value with a delimiter or a quote stands in double quotes.",
        ) from None


def _delimiter(file: Path, text: str) -> str:
    if file.suffix.lower() in _TAB_SUFFIXES:
        return "\t"
    first = next((line for line in text.split("\n") if line.strip()), "")
    return max(",;\t", key=first.count)
