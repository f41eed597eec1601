"""Faults 25 to 30 and 33: what cannot be meant is told before anything is made, and what differs is shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import VECTORS_PLUGIN
from faults import check
from images import noise
from safetensors.numpy import load_file, save_file
from warm_process import run_warm

from mltrain.checkpoints.manifest import MANIFEST, write_manifest
from mltrain.cli.main import main

HEAD = f"""task: vectors
plugins: [{VECTORS_PLUGIN}]
data: {{num_workers: 0}}
model: {{}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def refused(number: int, config: Path, text: str, *overrides: str, case: str = "") -> None:
    """Run a command that is refused before it has made anything."""
    config.write_text(HEAD + text)
    before = sorted(config.parent.iterdir())
    check(number, run_warm(["mltrain", "--config", config.name, *overrides], config.parent), case, config=config.name)
    assert sorted(config.parent.iterdir()) == before


def test_fault_25_mistyped_keys(config: Path) -> None:
    text = "training:\n  num_epoch: 3\n  optimizer: {name: sgd}\ntraking: {mlflow: {enabled: false}}\n"
    refused(25, config, text, "data.num_worker=2")


def test_fault_26_values_that_cannot_be_meant(config: Path) -> None:
    text = 'training: {batch_size: 0,\n  num_epochs: "10"}\noptimizer: {lr: -0.1}\n'
    refused(26, config, text, case="values")


def test_fault_26_a_rate_that_is_not_a_number(config: Path) -> None:
    refused(26, config, "optimizer: {lr: .nan}\n", case="nan")


def test_fault_27_an_unknown_trainer(config: Path) -> None:
    refused(27, config, "training: {trainer_type: mixed_precison}\n", case="trainer")


def test_fault_27_a_plugin_that_raises(config: Path) -> None:
    (config.parent / "mine.py").write_text("def rows():\n    return open('table.csv').read()\n\nROWS = rows()\n")
    refused(27, config, "", "plugins=[mine.py]", case="plugin")


def test_fault_28_a_batch_larger_than_the_data(config: Path) -> None:
    text = "training: {batch_size: 64, num_epochs: 2}\ntracking: {mlflow: {enabled: false}}\nrun: {name: it}\n"
    config.write_text(HEAD + text)
    check(28, run_warm(["mltrain", "--config", config.name], config.parent))
    metrics = (config.parent / "runs" / "it" / "metrics.jsonl").read_text().splitlines()
    assert yaml.safe_load(metrics[-1])["step"] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_fault_29_a_gpu_where_there_is_none(config: Path) -> None:
    refused(29, config, "", "training.device=cuda", case="cuda")


def test_fault_29_float16_on_a_cpu(config: Path) -> None:
    arguments = ["training.trainer_type=mixed_precision", "training.amp_dtype=float16", "training.device=cpu"]
    refused(29, config, "", *arguments, case="fp16")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images in two folds, and a run on the first."""
    folder = tmp_path_factory.mktemp("project")
    for number in range(24):
        path = folder / "data" / "raw" / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(8, 8, seed=number).save(path)
    split(folder, "--seed", "1")
    content = {
        "task": "image_classification",
        "data": {"data_dir": "data", "image_size": 8, "num_workers": 0},
        "model": {"architecture": "mlp"},
        "training": {"num_epochs": 1, "batch_size": 8},
        "tracking": {"mlflow": {"enabled": False}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    result = run_warm(["mltrain", "--config", "config.yaml", "--run_name", "it"], folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(project, tmp_path / "project"))


def split(folder: Path, *arguments: str) -> None:
    words = ["--raw_data", str(folder / "data" / "raw"), "--folds", "2", "--overwrite", *arguments]
    assert main(["split", *words]) == 0


def resume_refused(case: str, copy: Path, *overrides: str) -> None:
    """Resume for one epoch more, which is refused; the run stays as it is."""
    run = copy / "runs" / "it"
    before = contents(run)
    result = run_warm(["mltrain", "--resume", "runs/it", "--num_epochs", "2", *overrides], copy)
    check(30, result, case, folder=run)
    assert contents(run) == before


def contents(run: Path) -> dict[str, bytes]:
    """Return all that a run folder holds, but for its log."""
    files = [path for path in run.rglob("*") if path.is_file() and path.suffix != ".log"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def test_fault_30_another_model(copy: Path) -> None:
    resume_refused("model", copy, "model.architecture=simple_cnn")


def test_fault_30_another_fold(copy: Path) -> None:
    resume_refused("fold", copy, "data.fold=1")


def test_fault_30_other_data(copy: Path) -> None:
    raw = copy / "data" / "raw"
    noise(8, 8, seed=99).save(raw / "dog" / "new.png")
    lists = copy / "data" / "splits"
    (lists / "splits.json").unlink()
    with (lists / "fold_0_train.txt").open("a") as lines:
        lines.write("raw/dog/new.png\n")
    resume_refused("data", copy)


def test_fault_30_another_division(copy: Path) -> None:
    split(copy, "--seed", "2")
    resume_refused("split", copy)


def test_fault_33_weights_of_another_architecture(copy: Path) -> None:
    words = ["model.architecture=simple_cnn", "model.weights=runs/it"]
    check(33, run_warm(["mltrain", "--config", "config.yaml", *words], copy), "architecture")
    assert [path.name for path in (copy / "runs").iterdir()] == ["it"]


def test_fault_33_weights_for_another_number_of_classes(copy: Path) -> None:
    (copy / "data" / "raw" / "bird").mkdir()
    for number in range(8):
        noise(8, 8, seed=100 + number).save(copy / "data" / "raw" / "bird" / f"{number}.png")
    split(copy, "--seed", "1")
    result = run_warm(["mltrain", "--config", "config.yaml", "--run_name", "new", "model.weights=runs/it"], copy)
    check(33, result, "classes")


def test_fault_33_a_checkpoint_of_another_model(copy: Path) -> None:
    (checkpoint,) = [path for path in (copy / "runs" / "it" / "checkpoints").iterdir() if path.is_dir()]
    tensors = load_file(checkpoint / "model.safetensors")
    name = sorted(tensors)[-1]
    save_file({**tensors, name: np.zeros((7, 7), np.float32)}, checkpoint / "model.safetensors")
    (checkpoint / MANIFEST).unlink()
    write_manifest(checkpoint)
    result = run_warm(["mltrain", "--resume", "runs/it", "--num_epochs", "9"], copy)
    check(33, result, "checkpoint", checkpoint=checkpoint)
