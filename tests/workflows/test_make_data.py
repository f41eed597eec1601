"""Data sets that the project writes itself."""

from __future__ import annotations

import argparse
import importlib
import shlex
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

from mltrain.cli import make_data as command
from mltrain.core.errors import ConfigError, DataError
from mltrain.data.tables.table import read_table
from mltrain.workflows.make_data import DATASETS, make_data, next_command


def test_every_maker_is_there_and_says_what_is_next() -> None:
    for name, maker in DATASETS.items():
        module, _, function = maker.writer.partition(":")
        assert callable(getattr(importlib.import_module(f"mltrain.data.examples.{module}"), function)), name
        words = shlex.split(next_command(name, Path("a b") / "c"))
        assert words[0] in ("ml-split", "ml-train", "mltrain"), name
        assert "{" not in " ".join(words), name


@pytest.mark.parametrize(
    ("name", "target", "loader"),
    [
        ("breast_cancer", "diagnosis", datasets.load_breast_cancer),
        ("diabetes", "progression", lambda: datasets.load_diabetes(scaled=False)),
    ],
)
def test_tables_hold_what_scikit_learn_has(name: str, target: str, loader: object, tmp_path: Path) -> None:
    assert make_data(name, tmp_path) == f"{len(loader().target)} rows in {tmp_path / name}.csv"  # type: ignore[operator]
    table, data = read_table(tmp_path / f"{name}.csv"), loader()  # type: ignore[operator]
    assert table.columns[-1] == target
    columns = [[float(text) for text in table.column(column, "key")] for column in table.columns[:-1]]
    np.testing.assert_allclose(np.transpose(columns), data.data, rtol=1e-11)
    expected = (
        [data.target_names[k] for k in data.target] if name == "breast_cancer" else [f"{v:g}" for v in data.target]
    )
    assert table.column(target, "key") == [str(text) for text in expected]
    assert make_data(name, tmp_path).startswith(f"{len(table)} rows")
    (tmp_path / f"{name}.csv").write_text("mine")
    with pytest.raises(DataError, match="is there already and holds something else"):
        make_data(name, tmp_path)
    assert (tmp_path / f"{name}.csv").read_text() == "mine"


def test_the_command_says_what_to_run_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(["diabetes", "--output", str(tmp_path / "d e")]))
    file = tmp_path / "d e" / "diabetes.csv"
    assert capsys.readouterr().out == (
        f"442 rows in {file}. Next: ml-split --table '{file}' --label progression --folds 5\n"
    )
    with pytest.raises(ConfigError, match="Did you mean diabetes"):
        make_data("diabetis", tmp_path)
