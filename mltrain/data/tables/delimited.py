"""Files of separated values (CSV, TSV), streamed with the line in which each row begins."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from mltrain.core.errors import DataError
from mltrain.data.image_files import printable
from mltrain.data.tables.row_batches import ROWS_A_BATCH, BadRows, RowBatch, text_table
from mltrain.data.tables.table_format import TableFormat

__all__ = ["DelimitedTable"]

_TAB_SUFFIXES = {".tsv", ".tab"}
_NO_LIMIT = 2**31 - 1

_Fields = tuple[int, list[str]]


class DelimitedTable:
    """See `row_batches.TableReader`. An empty field is a missing value; other values are left as they stand.

    The delimiter is a tab in files called .tsv or .tab; otherwise the one of comma, semicolon and tab that the first
    line has most of. Lines without any value are passed over. A column without a name is left out.

    Raises:
        DataError: the file is empty, cannot be read, is not UTF-8, or its quotes do not match.
    """

    unit: Literal["line", "row"] = "line"

    def __init__(self, file: Path, table_format: TableFormat) -> None:
        self._file, self._format = file, table_format
        self.bad = BadRows()
        self._first_line = 1 if table_format.column_names is None else 0
        names = self._header() if table_format.column_names is None else table_format.column_names
        self._width = len(names)
        self._places = [place for place, name in enumerate(names) if name]
        self.columns = [names[place] for place in self._places]

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows; one that has more fields than there are columns is bad."""
        rows = self._sound(itertools.islice(self._lines(), self._first_line, None))
        while batch := list(itertools.islice(rows, ROWS_A_BATCH)):
            places, values = zip(*batch, strict=True)
            yield RowBatch(text_table(self.columns, values), places)

    def _sound(self, lines: Iterator[_Fields]) -> Iterator[tuple[int, list[str | None]]]:
        for line, fields in lines:
            if len(fields) > self._width:
                self.bad.add(line, self._too_wide(len(fields)))
                continue
            yield line, [fields[place] or None if place < len(fields) else None for place in self._places]

    def _too_wide(self, count: int) -> str:
        columns = "the first line has" if self._first_line else "column_names has"
        fix = "Put values with delimiters in quotes." if self._format.quoting == "csv" else "Take the delimiters out."
        return f"the row has {count} fields, {columns} {self._width}. {fix}"

    def _header(self) -> Sequence[str]:
        line, fields = next(self._lines(), (1, []))
        if not fields:
            raise DataError(
                "the table is empty", where=printable(str(self._file)), fix="Begin it with a line of column names."
            )
        names = [field.strip() for field in fields]
        for name in names:
            if name and names.count(name) > 1:
                raise DataError(
                    f"{names.count(name)} columns are called '{printable(name)}'",
                    where=f"{printable(str(self._file))}:{line}",
                    fix="Rename them, or name all columns with data.column_names (--column_names in ml-split) if this "
                    "line is a row already.",
                )
        return names

    def _lines(self) -> Iterator[_Fields]:
        """Yield the number of the line in which a row begins, and its fields, for rows that have any value."""
        begin = 1
        try:
            with self._file.open(encoding="utf-8-sig", newline="") as stream, _long_fields():
                quoting: Any = csv.QUOTE_MINIMAL if self._format.quoting == "csv" else csv.QUOTE_NONE
                reader = csv.reader(stream, delimiter=self._delimiter(), strict=True, quoting=quoting)
                for fields in reader:
                    if any(map(str.strip, fields)):
                        yield begin, fields
                    begin = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"the row cannot be read ({error})",
                where=f"{printable(str(self._file))}:{begin}",
                fix="Mend its quotes: a value with a delimiter or a quote stands in double quotes. Where quotes are "
                "characters like any other, set data.quoting=none (--quoting none in ml-split).",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from None

    def _delimiter(self) -> str:
        if self._file.suffix.lower() in _TAB_SUFFIXES:
            return "\t"
        with self._file.open(encoding="utf-8-sig") as stream:
            first = next((line for line in stream if line.strip()), "")
        return max(",;\t", key=first.count)

    def _unreadable(self, error: OSError | UnicodeDecodeError) -> DataError:
        where = printable(str(self._file))
        if isinstance(error, OSError):
            cause, fix = str(error.strerror), "Give the path of a table that may be read."
        else:
            cause, fix = "not UTF-8", "Save it as CSV in UTF-8."
            with contextlib.suppress(OSError):
                where += _first_foreign_line(self._file)
        return DataError(f"the table cannot be read ({cause})", where=where, fix=fix)


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    """Let fields be longer than the 131,072 characters that the csv module takes for a mistake: documents are."""
    usual = csv.field_size_limit(_NO_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _first_foreign_line(file: Path) -> str:
    """Return ":line" of the first line that is not UTF-8."""
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f":{number}"
    return ""
