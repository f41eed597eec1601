"""Texts of columns to values: what each kind takes, what is missing and what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.data.tables.columns import Column, convert, convert_number, convert_texts
from mltrain.data.tables.table import Table, read_table


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("label", " 01 ", "01"),
        ("label", "NaN", None),
        ("label", "None", "None"),
        ("category", "<NA>", None),
        ("number", " -1.5e3 ", -1500.0),
        ("number", ".5", 0.5),
        ("number", "n/a", None),
        ("number", "NULL", None),
        ("position", "-1", -1),
        ("position", "12.0", 12),
        ("position", None, None),
    ],
)
def test_values(kind: Any, text: str | None, value: object) -> None:
    converted = convert_texts([text], Column("c", "data.c", kind, may_be_missing=True))
    assert list(converted.values) == [value]
    assert type(converted.values[0]) is type(value)
    assert converted.problems == {}


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("label", "", "the column 'c' has no value. Fill it in, or take the row out."),
        ("label", "nan", "the column 'c' has 'nan'. Fill it in, or take the row out."),
        ("label", "a\nb", r"the column 'c' has 'a\nb', with line breaks or control characters. Remove them."),
        ("label", "x" * 1001, "the column 'c' has a value of 1001 characters. Mend it, or the quotes around it."),
        ("number", "?", "the column 'c' has '?'. Fill it in, or take the row out."),
        ("number", "inf", "the column 'c' has 'inf', which is no finite number. Mend it, or leave it empty."),
        ("number", "1_000", "the column 'c' has '1_000', which is no finite number. Mend it, or leave it empty."),
        ("number", "1e999", "the column 'c' has '1e999', which is no finite number. Mend it, or leave it empty."),
        ("number", "1,5", "the column 'c' has '1,5'. Write a point for the decimal comma."),
        ("position", "1.5", "the column 'c' has '1.5', which is no whole number. Mend it."),
    ],
)
def test_problems(kind: Any, text: str, problem: str) -> None:
    converted = convert_texts(["1" if kind != "label" else "a", text], Column("c", "data.c", kind))
    assert converted.problems == {1: problem}
    assert converted.values[1] is None


def test_texts_are_read_when_asked_for_and_blank_ones_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('t,x\n" a ",1\n"  ",1\n,1\nnan,1\n')
    table = read_table(tmp_path / "a.csv")
    converted = convert(table, Column("t", "data.t", "text"))
    assert list(converted.values) == [" a ", None, None, "nan"]
    assert converted.values[1:3] == [None, None]
    assert sorted(converted.problems) == [1, 2]
    assert convert(table, Column("t", "data.t", "text", may_be_missing=True)).problems == {}


TEXT = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", " NA ", "?", ".5", "5.", "+1", "1e999", "0x1", "1_0", "\u0661", " 7 ", "-", "1e5", "-0"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), TEXT), min_size=1, max_size=6), st.booleans())
def test_whole_columns_are_converted_as_single_texts_are(texts: list[str | None], may_be_missing: bool) -> None:
    array = pa.chunked_array([pa.array(texts[:2], pa.string()), pa.array(texts[2:], pa.string())])
    column = Column("c", "data.c", "number", may_be_missing)
    whole, single = convert(cast("Table", _OneColumn(array)), column), convert_texts(texts, column)
    assert whole.problems == single.problems
    assert list(map(repr, whole.values)) == list(map(repr, single.values))


class _OneColumn:
    """As much of a table as `convert` asks for."""

    def __init__(self, array: pa.ChunkedArray) -> None:
        self._array = array

    def array(self, name: str, key: str) -> pa.ChunkedArray:
        return self._array


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_back_to_the_bit(value: float) -> None:
    read, problem = convert_number(repr(value))
    assert problem is None
    assert read == value
    assert math.copysign(1, read) == math.copysign(1, value)
