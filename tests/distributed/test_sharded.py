"""FSDP2 on two processes: equal to one, saved in parts, continued by any number, packed as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from runs import history, largest_difference, weights
from warm_commands import ranks

from mltrain.core.files import read_json
from mltrain.tasks.package import load_trained
from mltrain.workflows.result import TrainResult

# As `accelerate launch` leaves it for accelerate_configs/fsdp2.yaml; every layer of these small models is divided.
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP",
    "FSDP_MIN_NUM_PARAMS": "10",
}
# 49 samples: the last window has one, and one rank nothing of its own.
SETTINGS = {
    "data.train_size": 49,
    "data.val_size": 3,
    "model.batch_norm": False,
    "training.ema": {"enabled": True, "decay": 0.9},
    "training.max_grad_norm": 0.5,
    "scheduler.warmup_epochs": 1,
}


def train_in_two(config: dict[str, Any], folder: Path, *words: str, code: int = 0, **environment: str) -> str:
    """Train in two processes and return what the first one said."""
    (folder / "two.yaml").write_text(yaml.safe_dump(config))
    command = ["mltrain", "--config", str(folder / "two.yaml"), "--trainer", "accelerate", *words]
    results = [each.end() for each in ranks(command, folder, {**FSDP2, **environment})]
    assert [result.returncode for result in results] == [code, code], results[0].stderr + results[1].stderr
    return str(results[0].stderr)


@pytest.fixture(scope="module")
def pair(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path, dict[str, Any]]:
    """The same job in one process, and divided in two."""
    folder = tmp_path_factory.mktemp("sharded")
    one = train_vectors({**SETTINGS, "run.dir": str(folder), "run.name": "one"})
    config = yaml.safe_load((one.folder / "config.yaml").read_text())
    config["run"]["name"] = "two"
    config["plugins"] += [str(ROOT / "tests" / "support" / "runs.py")]
    config["training"] |= {"batch_size": 2, "gradient_accumulation_steps": 2}
    train_in_two(config, folder)
    return one, folder / "two", config


def test_two_parts_equal_one_whole(pair: tuple[TrainResult, Path, dict[str, Any]]) -> None:
    one, two, _ = pair
    assert largest_difference(weights(one.folder), weights(two)) < 1e-6
    for mine, theirs in zip(history(two), history(one.folder), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_checkpoints_are_written_in_parts(pair: tuple[TrainResult, Path, dict[str, Any]]) -> None:
    checkpoint = next((pair[1] / "checkpoints").glob("step-*"))
    parts = [f"{stem}-0000{part}-of-00002.safetensors" for stem in ("ema", "model", "optimizer") for part in (1, 2)]
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {*parts, "MANIFEST.json", "optimizer.json", "state.json"}


def test_the_package_is_one_file_that_loads_without_processes(pair: tuple[TrainResult, Path, dict[str, Any]]) -> None:
    one, two, _ = pair
    model = load_trained(two / "model", one.task())
    assert model.facts["model_digest"] == read_json(two / "summary.json")["model_digest"]


def test_a_run_in_parts_stopped_and_continued_gives_the_same_bits(
    pair: tuple[TrainResult, Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, two, config = pair
    config = {**config, "run": {**config["run"], "dir": str(tmp_path)}, "callbacks": {"stop_at": {"step": 10}}}
    train_in_two(config, tmp_path, code=143)
    train_in_two({**config, "callbacks": {}}, tmp_path, "--resume", str(tmp_path / "two"))
    digests = [read_json(folder / "two" / "summary.json")["model_digest"] for folder in (tmp_path, two.parent)]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_parts_become_a_whole_and_a_whole_becomes_parts(
    pair: tuple[TrainResult, Path, dict[str, Any]], train_vectors: Any, tmp_path: Path
) -> None:
    one, _, config = pair
    config = {**config, "run": {**config["run"], "dir": str(tmp_path)}, "callbacks": {"stop_at": {"step": 10}}}
    train_in_two(config, tmp_path, code=143)
    alone = {"training.trainer_type": "standard", "training.gradient_accumulation_steps": 4, "training.batch_size": 2}
    train_vectors({**alone, "callbacks": {"stop_at": {"step": 16}}}, config=None, resume=tmp_path / "two")
    train_in_two({**config, "callbacks": {}}, tmp_path, "--resume", str(tmp_path / "two"))
    assert largest_difference(weights(one.folder), weights(tmp_path / "two")) < 1e-6


SCALAR = """
import torch

from mltrain.tasks.base import TASKS, register_task


class Scaled(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 2)
        self.scale = torch.nn.Parameter(torch.tensor(1.5))

    def forward(self, vectors):
        return self.scale * super().forward(vectors)


@register_task("scaled_vectors")
class ScaledVectors(TASKS.get("vectors")):
    def build_model(self):
        return Scaled()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "precision", "told"),
    [
        ("vectors", "fp16", "mixed_precision: fp16 was launched with FSDP. Launch bf16, or full precision"),
        ("scaled_vectors", "no", "scale is a parameter without a dimension, which FSDP2 cannot divide. Make it one of"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line(
    task: str, precision: str, told: str, vectors: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "scaled.py").write_text(SCALAR)
    config = {**vectors, "task": task, "plugins": [*vectors["plugins"], str(tmp_path / "scaled.py")]}
    errors = train_in_two(config, tmp_path, code=2, ACCELERATE_MIXED_PRECISION=precision)
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert told in line
    assert "Traceback" not in errors
