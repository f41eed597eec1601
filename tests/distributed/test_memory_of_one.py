"""Memory too small on one process of two: both cut their windows smaller, and the gradient stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import VECTORS_PLUGIN
from runs import history, largest_difference, weights
from warm_commands import ranks

from mltrain.core.files import read_json

PLUGIN = """
import os

import torch

from mltrain.tasks.base import TASKS, register_task


@register_task("hungry_on_rank_one")
class Hungry(TASKS.get("vectors")):
    def losses(self, model, batch):
        if model.training and os.environ.get("RANK") == "1" and len(batch["labels"]) > 2:
            raise torch.OutOfMemoryError("the test says so")
        return super().losses(model, batch)


@register_task("hungry_later")
class HungryLater(TASKS.get("vectors")):
    calls = 0

    def losses(self, model, batch):
        self.calls += model.training
        if os.environ.get("RANK") == "1" and self.calls > 6:
            raise torch.OutOfMemoryError("the test says so")
        return super().losses(model, batch)
"""


def run_pair(vectors: dict[str, Any], folder: Path, task: str) -> list[Any]:
    (folder / "hungry.py").write_text(PLUGIN)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**vectors, "plugins": [str(VECTORS_PLUGIN), "hungry.py"]}))
    words = ["mltrain", "--config", str(config), "--trainer", "accelerate", "--num_epochs", "1", "--batch_size", "4"]
    return [command.end() for command in ranks([*words, f"task={task}", "--run_name", task], folder, {})]


@pytest.mark.slow
def test_both_go_on_with_smaller_microbatches(vectors: dict[str, Any], tmp_path: Path) -> None:
    for task in ("vectors", "hungry_on_rank_one"):
        results = run_pair(vectors, tmp_path, task)
        assert [result.returncode for result in results] == [0, 0], results
    told = "Out of memory with microbatches of 4: going on with 2. The gradient of a window stays the same."
    assert results[0].stderr.count(told) == 1
    straight, smaller = (tmp_path / "runs" / task for task in ("vectors", "hungry_on_rank_one"))
    assert largest_difference(weights(straight), weights(smaller)) < 1e-6
    state = read_json(next((smaller / "checkpoints").glob("step-*")) / "state.json")
    assert state["microbatches"] == {"configured": 4, "size": 2}
    for mine, theirs in zip(history(smaller), history(straight), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_in_the_middle_of_an_exchange_it_ends_the_run_in_one_line(vectors: dict[str, Any], tmp_path: Path) -> None:
    main, other = run_pair(vectors, tmp_path, "hungry_later")
    assert main.returncode == other.returncode == 2, main.stderr + other.stderr
    assert "Traceback" not in main.stderr + other.stderr
    (line,) = [line for line in main.stderr.splitlines() if line.startswith("error:")]
    assert "--resume" in line


DRAWING = """
import numpy

from mltrain.tasks.base import TASKS, Losses, register_task


@register_task("drawing")
class Drawing(TASKS.get("vectors")):
    def losses(self, model, batch):
        shift = float(numpy.random.random()) if model.training else 0.0
        return super().losses(model, {**batch, "vectors": batch["vectors"] + shift})
"""


@pytest.mark.slow
def test_trying_a_microbatch_first_leaves_no_trace_in_any_generator(vectors: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(DRAWING)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**vectors, "plugins": [str(VECTORS_PLUGIN), "drawing.py"], "task": "drawing"}))
    words = ["mltrain", "--config", str(config), "--trainer", "accelerate", "--batch_size", "4", "scheduler.name=none"]

    def train(*more: str) -> None:
        results = [command.end() for command in ranks([*words, *more], tmp_path, {})]
        assert [result.returncode for result in results] == [0, 0], results

    train("--num_epochs", "2", "--run_name", "straight")
    train("--num_epochs", "1", "--run_name", "extended")
    train("--num_epochs", "2", "--resume", str(tmp_path / "runs" / "extended"))
    straight, extended = (read_json(tmp_path / "runs" / name / "summary.json") for name in ("straight", "extended"))
    assert extended["model_digest"] == straight["model_digest"]
