"""A transformers model divided by its blocks: every trainer's precision, and a package that transformers reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from images import paint_classes
from runs import history, largest_difference, weights
from warm_commands import ranks

import mltrain
from mltrain.core.files import read_json
from mltrain.workflows.train import train

BLOCKS = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}
VIT = {"patch_size": 4, "num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 48}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("painted")
    paint_classes(folder, ("blue", "green", "red"), 9)
    mltrain.split_folder(folder / "raw", folds=3, test_ratio=0.2)
    return {
        "task": "image_classification",
        "data": {"data_dir": str(folder), "image_size": 8, "num_workers": 0},
        "model": {"architecture": "vit_tiny", "options": VIT},
        "training": {"num_epochs": 2, "batch_size": 4, "ema": {"enabled": True, "decay": 0.9}},
        "tracking": {"log_every_n_steps": 1, "mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(folder / "runs")},
    }


def train_in_two(config: dict[str, Any], folder: Path, name: str, **environment: str) -> Path:
    (folder / "two.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", str(folder / "two.yaml"), "--trainer", "accelerate", "--run_name", name]
    shares = ["--batch_size", "2"]  # the window stays what it is in one process
    results = [each.end() for each in ranks(["mltrain", *words, *shares], folder, {**BLOCKS, **environment})]
    assert [result.returncode for result in results] == [0, 0], results[0].stderr + results[1].stderr
    return Path(config["run"]["dir"]) / name


@pytest.mark.slow
def test_it_equals_one_process_and_transformers_reads_its_package(config: dict[str, Any], tmp_path: Path) -> None:
    from transformers import ViTForImageClassification

    one = train(config, {"run.name": "one"}, verbose=False)
    two = train_in_two(config, tmp_path, "two")
    assert largest_difference(weights(one.folder), weights(two)) < 1e-5
    read = ViTForImageClassification.from_pretrained(two / "model")
    assert read_json(two / "model" / "config.json")["architectures"] == ["ViTForImageClassification"]
    for name, tensor in weights(two).items():
        assert torch.equal(read.state_dict()[name], tensor)


@pytest.mark.slow
def test_in_bfloat16_it_learns_alike_with_weights_in_float32(config: dict[str, Any], tmp_path: Path) -> None:
    one = train(config, {"run.name": "bf16", "training.trainer_type": "mixed_precision"}, verbose=False)
    two = train_in_two(config, tmp_path, "bf16_in_two", ACCELERATE_MIXED_PRECISION="bf16")
    assert {tensor.dtype for tensor in weights(two).values()} == {torch.float32}
    for mine, theirs in zip(history(two), history(one.folder), strict=True):
        assert mine.get("train/step_loss", math.nan) == pytest.approx(
            theirs.get("train/step_loss", math.nan), abs=0.05, nan_ok=True
        )
