"""Texts over two processes: windows by length, each share filled up on its own, give what one process does."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from runs import largest_difference, weights

import mltrain
from mltrain.core.files import read_json


def config_of(folder: Path) -> dict[str, Any]:
    """Write 45 texts, so that the last window of 8 is short."""
    draw = random.Random(1)
    with (folder / "t.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["text", "label", "split"])
        for number in range(61):
            words = draw.choices(["see", "you", "at", "home", "later", "win", "a", "prize"], k=draw.randint(1, 20))
            lines.writerow([" ".join(words), ("ham", "spam")[number % 2], "train" if number < 45 else "val"])
    return {
        "task": "text_classification",
        "data": {
            "data_dir": str(folder), "table": "t.csv", "split_column": "split", "max_length": 24,
            "length_bucketing": True, "num_workers": 0,
        },
        "model": {"architecture": "cnn_text", "vocab_size": 64, "options": {"dropout": 0.0, "filters": 8}},
        "training": {"num_epochs": 2, "batch_size": 8},
        "optimizer": {"name": "sgd", "lr": 0.2},
        "scheduler": {"name": "none"},
        "tracking": {"mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(folder), "name": "one"},
    }  # fmt: skip


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    one = mltrain.train(config, verbose=False)
    config["training"] |= {"batch_size": 2, "gradient_accumulation_steps": 2, "trainer_type": "accelerate"}
    config["run"]["name"] = "two"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "mltrain", "--config", str(tmp_path / "c.yaml"), "--num_processes", "2"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    summary = read_json(tmp_path / "two" / "summary.json")
    assert summary["num_processes"] == 2
    assert largest_difference(weights(one.folder), weights(tmp_path / "two")) < 1e-6
    for split in ("train", "val"):
        assert summary[split] == pytest.approx(one.summary[split], rel=1e-4, abs=1e-5)
