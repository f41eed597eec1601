"""IDs of rows: by content alone."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.errors import DataError
from mltrain.data.tables.row_ids import row_digests, row_ids
from mltrain.data.tables.table import Table, read_table

CELL = st.text("ab:-1 ", max_size=3)


def table_of(folder: Path, rows: list[tuple[str, str]], names: tuple[str, str] = ("x", "y")) -> Table:
    with (folder / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", *names), *(("r", *row) for row in rows)])
    return read_table(folder / "a.csv")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8), st.randoms())
def test_equal_rows_alone_have_equal_digests_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], draw: object
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    digests = row_digests(table_of(folder, rows), ["x", "y"], "key")
    assert [[a == b for b in digests] for a in digests] == [[a == b for b in rows] for a in rows]
    ids = row_ids(digests)
    assert len(set(ids)) == len(rows)
    order = list(range(len(rows)))
    draw.shuffle(order)  # type: ignore[attr-defined]
    other = row_digests(table_of(folder, [rows[k] for k in order]), ["y", "x"], "key")
    assert other == [digests[k] for k in order]
    assert Counter(row_ids(other)) == Counter(ids)


def test_columns_count_by_name_and_missing_is_not_empty(tmp_path: Path) -> None:
    one = row_digests(table_of(tmp_path, [("a", "b")]), ["x", "y"], "key")
    assert one != row_digests(table_of(tmp_path, [("a", "b")], ("y", "x")), ["x", "y"], "key")
    (tmp_path / "a.jsonl").write_text('{"x": ""}\n{"x": null, "y": 1}\n')
    empty, missing = row_digests(read_table(tmp_path / "a.jsonl"), ["x"], "key")
    assert empty != missing
    assert row_ids(["a" * 40, "b" * 40, "a" * 40, "a" * 40]) == ["a" * 24, "b" * 24, f"{'a' * 24}-2", f"{'a' * 24}-3"]
    with pytest.raises(DataError, match="no column 'z'"):
        row_digests(table_of(tmp_path, [("a", "b")]), ["z"], "key")
