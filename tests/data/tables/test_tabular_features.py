"""Columns as inputs: chosen, standardised and numbered by the training rows alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.tables.column_choice import ColumnChoice, choose_columns, is_quantity
from mltrain.data.tables.table import Table, read_table
from mltrain.data.tables.tabular_features import TabularFeatures


def test_numbers_and_categories_as_scikit_learn_makes_them() -> None:
    draw = np.random.default_rng(0)
    numbers, names = draw.normal(5, 3, size=(40, 2)), draw.choice(["b", "a", "c"], size=40)
    values: dict[str, Any] = {"x": list(numbers[:, 0]), "y": list(numbers[:, 1]), "k": [str(name) for name in names]}
    train, other = range(30), range(30, 40)
    features = TabularFeatures.fit(values, train, ["x", "y"], ["k"])
    scaler = StandardScaler().fit(numbers[:30])
    coder = OrdinalEncoder().fit(names[:30, None])
    for rows in (train, other):
        np.testing.assert_allclose(features.number_array(values, rows), scaler.transform(numbers[rows]), rtol=1e-6)
        np.testing.assert_array_equal(features.category_array(values, rows), coder.transform(names[rows][:, None]) + 1)
    assert (features.num_numbers, features.sizes) == (2, [4])
    assert features.number_array(values, train).dtype == np.float32


def test_what_is_missing_or_unseen() -> None:
    values: dict[str, Any] = {
        "x": [1.0, None, 3.0, None, 9.0],
        "full": [0.0, 1.0, 2.0, None, 1.0],
        "k": ["a", None, "b", "c", None],
        "l": ["a", "b", "a", None, "b"],
    }
    features = TabularFeatures.fit(values, [0, 1, 2], ["x", "full"], ["k", "l"])
    # Columns: x, full, and then whether x is missing; `full` had no gap in training.
    expected = [[-1, -1.2247449, 0], [0, 0, 1], [1, 1.2247449, 0], [0, 0, 1], [7, 0, 0]]
    np.testing.assert_allclose(features.number_array(values, range(5)), expected, rtol=1e-6)
    np.testing.assert_array_equal(features.category_array(values, range(5)), [[1, 1], [3, 2], [2, 1], [0, 0], [3, 2]])
    assert features.sizes == [4, 3]


def test_constant_columns_are_left_out_and_told() -> None:
    values: dict[str, Any] = {
        "one": [0.1, 0.1, 0.1, 5.0], "gaps": [0.1, None, 0.1, 1.0], "k": ["a", "a", "a", "b"], "none": [None] * 4
    }  # fmt: skip
    features = TabularFeatures.fit(values, [0, 1, 2], ["one", "gaps", "none"], ["k"])
    assert [column.name for column in features.columns] == ["gaps"]
    np.testing.assert_allclose(features.number_array(values, range(4)), [[0, 0], [0, 1], [0, 0], [0.9, 0]], rtol=1e-6)
    assert features.notices() == ["3 columns are left out, the same in all training rows: one, none, k."]


def test_they_go_through_json_to_the_bit() -> None:
    values: dict[str, Any] = {"x": [1 / 3, 0.1, 1e-300, 5e200], "k": ["é", None, "b", '"']}
    features = TabularFeatures.fit(values, range(4), ["x"], ["k"])
    again = TabularFeatures.from_json(json.loads(json.dumps(features.to_json())))
    assert again == features


@pytest.fixture
def table(tmp_path: Path) -> Table:
    lines = ["number,typo,code,kind,id,empty,target,person"]
    for k in range(200):
        typo = "1.2.3" if k == 5 else f"{k / 7}"
        lines.append(f"{k / 3},{typo},{k % 3},{'ab'[k % 2]},row {k},,{k},p{k % 9}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    return read_table(tmp_path / "a.csv")


def choose(table: Table, **arguments: Any) -> ColumnChoice:
    usual: dict[str, Any] = {
        "target": "target", "numeric": "auto", "categorical": "auto", "ignored": [], "others": {"person": ""}
    }  # fmt: skip
    return choose_columns(table, **{**usual, **arguments})


def test_columns_are_chosen_by_content(table: Table) -> None:
    choice = choose(table)
    assert (choice.numeric, choice.categorical) == (["number", "typo", "code"], ["kind"])
    assert choice.remarks == [
        "The column 'id' is left out: 200 different texts on 200 rows. data.categorical takes it all the same.",
        "The column 'empty' is left out: it has no values.",
    ]
    choice = choose(table, categorical=["id", "code"], ignored=["number"])
    assert (choice.numeric, choice.categorical) == (["typo"], ["code", "id"])
    choice = choose(table, numeric=["person", "number"], categorical=[])
    assert (choice.numeric, choice.categorical) == (["number", "person"], [])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"numeric": ["nubmer"]}, DataError, "Did you mean 'number'.*data.numeric"),
        (
            {"numeric": ["code"], "categorical": ["code"]},
            ConfigError,
            "data.categorical: names the column 'code', which",
        ),
        ({"numeric": ["target"]}, ConfigError, r"data.numeric: names the column 'target', which data.target names too"),
        ({"ignored": ["x"]}, DataError, "no column 'x'.*data.ignore"),
        ({"numeric": [], "categorical": []}, ConfigError, "no column to predict from"),
    ],
)
def test_choices_that_cannot_be(table: Table, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        choose(table, **arguments)


@pytest.mark.parametrize(
    ("texts", "quantity"),
    [
        (["1", "2", "3"], False),
        (["1.0", "2.0"], False),
        (["0.5", "2"], True),
        ([str(k) for k in range(21)], True),
        ([str(k) for k in range(20)], False),
        (["1.5", "x"], False),
        ([None, ""], False),
    ],
)
def test_what_is_a_quantity(texts: list[str | None], quantity: bool) -> None:
    assert is_quantity(texts) is quantity
