"""The ready configurations of the task `tabular`, from the commands that they name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from conftest import ROOT

import mltrain
from mltrain.cli import split
from mltrain.core.files import read_json
from mltrain.workflows.make_data import make_data, next_command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epochs", "figure", "least"),
    [("breast_cancer", 3, "accuracy", 0.85), ("diabetes", 10, "r2", 0.2)],
)
@pytest.mark.usefixtures("quick_reports")
def test_it_learns(name: str, epochs: int, figure: str, least: float) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    split.add_arguments(parser)
    output = Path("data") / name
    make_data(name, output)
    first_line = (ROOT / "configs" / f"tabular_{name}.yaml").read_text().partition("\n")[0]
    assert first_line.endswith(f"mltrain make-data {name}; {next_command(name, output)}")
    split.run(parser.parse_args(shlex.split(next_command(name, output))[1:]))
    settings = {"training.num_epochs": epochs, "tracking.mlflow.enabled": False, "reproducibility.num_threads": 1}
    result = mltrain.train(str(ROOT / "configs" / f"tabular_{name}.yaml"), settings, verbose=False)
    assert result.summary["val"][figure] > least
    assert read_json(result.folder / "model" / "mltrain.json")["task"] == "tabular"
