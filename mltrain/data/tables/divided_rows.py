"""Rows that say themselves, in a column, whether they are train, val or test."""

from __future__ import annotations

from mltrain.data.image_files import printable
from mltrain.data.labelled_splits import SPLITS, split_called
from mltrain.data.tables.row_ids import row_digests, row_ids
from mltrain.data.tables.row_lists import ListedRows
from mltrain.data.tables.table import Table

__all__ = ["rows_by_column"]

_KEY = "data.split_column"


def rows_by_column(table: Table, split_column: str) -> tuple[ListedRows, dict[int, str]]:
    """Return the rows as their column divides them, ordered by their IDs; and row -> problem, where it says no split.

    Raises:
        DataError: there is no such column.
    """
    called = table.column(split_column, _KEY)
    ids = row_ids(row_digests(table, [name for name in table.columns if name != split_column], _KEY))
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    problems: dict[int, str] = {}
    for row in sorted(range(len(table)), key=ids.__getitem__):
        text = (called[row] or "").strip()
        split = split_called(text)
        if split is not None:
            rows[split].append(row)
        else:
            shown = f"'{printable(text)}'" if text else "no value"
            problems[row] = f"the column '{printable(split_column)}' has {shown}. Write train, val or test."
    return ListedRows(rows, ids, [], ""), problems
