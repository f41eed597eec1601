"""Texts of columns to values: what each kind takes, what is missing and what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.data.tables.columns import Column, convert, convert_number, convert_texts
from mltrain.data.tables.table import read_table


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


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_back_to_the_bit(value: float) -> None:
    read, problem = convert_number(repr(value))
    assert problem is None
    assert read == value
    assert math.copysign(1, read) == math.copysign(1, value)
