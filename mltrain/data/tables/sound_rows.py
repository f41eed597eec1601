"""The rows of a table that a task can use, and what is wrong with the others, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mltrain.core.errors import DataError
from mltrain.data.tables.columns import Column, ConvertedColumn, convert
from mltrain.data.tables.row_batches import SHOWN_PROBLEMS, BadRow
from mltrain.data.tables.table import Table

__all__ = ["RowCheck", "SoundRows", "refuse_rows", "row_problems"]

RowCheck = Callable[[Mapping[str, Any]], str | None]

SKIP = "data.on_bad_rows=skip"
_SHOWN_IN_REMARKS = 3


class SoundRows:
    """Converts columns and checks the rows of the splits.

    Args:
        table: the table.
        columns: what is needed of each row.
        check: what else is wrong with a row, by its values; None: nothing is.
        rows: split -> the rows that count.
        problems: row -> what is known to be wrong with it, of any row.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[Column],
        check: RowCheck | None,
        rows: Mapping[str, Sequence[int]],
        problems: Mapping[int, str],
    ) -> None:
        self._table = table
        self._columns: dict[str, ConvertedColumn] = {column.name: convert(table, column) for column in columns}
        self._problems = dict(problems)
        wanted = {row for part in rows.values() for row in part}
        for converted in self._columns.values():
            for row, problem in converted.problems.items():
                if row in wanted:
                    self._problems.setdefault(row, problem)
        if check is not None:
            values = {name: converted.values for name, converted in self._columns.items()}
            for row in wanted - self._problems.keys():
                wrong = check({name: column[row] for name, column in values.items()})
                if wrong is not None:
                    self._problems[row] = wrong

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of a column by number of the row."""
        return self._columns[name].values

    def kept(self, rows: Sequence[int]) -> list[int]:
        """Return those of some rows that can be used."""
        return [row for row in rows if row not in self._problems]

    def refuse_problems(self, skip: str = SKIP) -> None:
        """Raise DataError for all rows that cannot be used: see `refuse_rows`."""
        refuse_rows(self._table, self._problems, skip)

    def remarks(self) -> list[str]:
        """Return a sentence about the rows that are left out, if there are any."""
        count = len(self._problems) + self._table.bad.count
        if not count:
            return []
        shown = row_problems(self._table, self._problems)[:_SHOWN_IN_REMARKS]
        rows = "1 row is" if count == 1 else f"{count} rows are"
        return [f"{rows} left out: {' '.join(shown)}"]

    def left_out(self) -> dict[str, str]:
        """Return the place of each row that is left out -> why; of those that are no rows, the first ten."""
        bad = {self._table.place_of(row.place): row.what for row in self._table.bad.first}
        return bad | {self._table.place(row): problem for row, problem in sorted(self._problems.items())}


def refuse_rows(table: Table, problems: Mapping[int, str], skip: str = SKIP) -> None:
    """Raise DataError where rows cannot be used; it tells the first ten.

    Args:
        table: the table, which may have lines that are no rows.
        problems: row -> what is wrong with it.
        skip: what leaves such rows out.
    """
    if shown := row_problems(table, problems):
        what = f"{skip} leaves such rows out."
        if len(problems) == len(table):
            what = "No row is as it must be: another column may be meant, or another kind of it."
        raise DataError(shown[0], problems=[*shown, f"{table.name}: {what}"])


def row_problems(table: Table, problems: Mapping[int, str]) -> list[str]:
    """Return the first ten problems of a table's rows, each with its line, and how many more there are.

    Args:
        table: the table, which may have lines that are no rows.
        problems: row -> what is wrong with it.
    """
    first = [BadRow(table.place_number(row), problems[row]) for row in sorted(problems)[:SHOWN_PROBLEMS]]
    shown = [f"{table.place_of(place)}: {what}" for place, what in sorted([*table.bad.first, *first])[:SHOWN_PROBLEMS]]
    if more := len(problems) + table.bad.count - len(shown):
        shown.append(f"{table.name}: {more} more {'row has a problem' if more == 1 else 'rows have problems'}.")
    return shown
