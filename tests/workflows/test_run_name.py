"""A run's name: data set, what was set by hand, fold; fit for a folder, and different for different runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from config_cases import class_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.config.load import check_config
from mltrain.core.run_folder import create_run_folder
from mltrain.workflows.run_name import run_name


def name(overrides: dict[str, Any] | None = None, **data: Any) -> str:
    content = {"task": "images", "data": {"data_dir": "data/ants", **data}, "model": {"architecture": "mlp"}}
    loaded = check_config(content, overrides or {}, class_of)
    return run_name(loaded.config, loaded.overrides)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "ants_fold_0"),
        ({"fold": 3}, "ants_fold_3"),
        ({"data_dir": "data/ants/"}, "ants_fold_0"),
        ({"data_dir": "/abs/bees"}, "bees_fold_0"),
        ({"data_dir": "."}, "data_fold_0"),
        ({"data_dir": "/"}, "data_fold_0"),
        ({"data_dir": ".."}, "data_fold_0"),
        ({"data_dir": "my data (1)"}, "my-data-1_fold_0"),
        ({"data_dir": "x", "dataset_name": "Ants & bees"}, "Ants-bees_fold_0"),
        ({"data_dir": "🐝"}, "data_fold_0"),
    ],
)
def test_the_data_set_and_the_fold(data: dict[str, Any], expected: str) -> None:
    assert name(**data) == expected


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"optimizer.lr": 1e-3}, "lr-0.001"),
        ({"optimizer.lr": 1e-5}, "lr-1e-05"),
        ({"training.num_epochs": 5, "optimizer.lr": 0.1}, "lr-0.1_num_epochs-5"),
        ({"training.trainer_type": "mixed_precision"}, "trainer_type-mixed-precision"),
        ({"training.max_grad_norm": None}, "training.max_grad_norm-null"),
        ({"reproducibility.deterministic": False}, "deterministic-false"),
        ({"model.options.hidden": [8, 4]}, "hidden-8-4"),
        ({"model.options.shift": -1}, "shift--1"),
        ({"training": {"batch_size": 4, "ema": {"decay": 0.5}}}, "batch_size-4_decay-0.5"),
        # A key that several sections have keeps its section.
        ({"optimizer.name": "sgd", "scheduler.name": "step"}, "optimizer.name-sgd_scheduler.name-step"),
        ({"early_stopping.patience": 3}, "early_stopping.patience-3"),
        ({"training.ema.enabled": True}, "ema.enabled-true"),
    ],
)
def test_what_was_set_by_hand(overrides: dict[str, Any], part: str) -> None:
    assert name(overrides) == f"ants_{part}_fold_0"


@pytest.mark.parametrize(
    "overrides",
    [
        {"data.fold": 0},
        {"data.num_workers": 3, "training.device": "cpu", "data.splits_dir": "/s", "data.dataset_name": "ants"},
        {"run.tags.a": "b", "run.dir": "elsewhere", "run": {"description": "x"}},
        {"tracking.mlflow.enabled": False, "tracking.others.x.y": 1},
        {"data": {"data_dir": "ants", "num_workers": 2}},
        {"plugins": []},
    ],
)
def test_where_and_how_is_no_part_of_the_name(overrides: dict[str, Any]) -> None:
    assert name(overrides) == "ants_fold_0"


def test_a_number_that_differs_in_the_last_digit_is_another_run() -> None:
    assert name({"optimizer.lr": 0.12345678}) != name({"optimizer.lr": 0.12345679})


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    names = [
        name({f"model.options.{'x' * 40}{n}": "y" * 40 for n in range(3)} | {"seed": seed}, fold=2) for seed in (1, 2)
    ]
    assert names[0] != names[1]
    for cut in names:
        assert len(cut) <= 120
        assert cut.startswith("ants_xxx")
        assert cut.endswith("_fold_2")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(TEXT, st.dictionaries(TEXT, TEXT | st.integers(-9, 9) | st.booleans() | st.none(), max_size=3))
def test_every_name_is_fit_for_a_folder(data_dir: str, options: dict[str, Any]) -> None:
    made = name({"model.options": options}, data_dir=data_dir)
    assert made.isascii()
    assert made.isprintable()
    assert create_run_folder(Path("runs"), made, numbered=True).path.is_dir()
