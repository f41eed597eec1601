"""One real run with MLflow: what it leaves in its folder, and that everything there agrees with everything else."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image
from sklearn.metrics import f1_score, precision_score, recall_score

import mltrain
from mltrain.checkpoints.manifest import verify_manifest
from mltrain.config.load import load_config
from mltrain.core.digest import model_digest
from mltrain.core.files import read_json
from mltrain.models.registry import logits_of
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification
from mltrain.tracking.run_facts import flatten
from mltrain.trainers.nonfinite import NonFiniteLossError

FILES = [
    "config.yaml", "metadata.json", "requirements.txt", "summary.txt", "summary.json", "metrics.jsonl",
    "logs/train.log", "logs/classification_report_train.txt", "logs/classification_report_val.txt",
    "logs/classification_report_test.txt", "checkpoints/best", "checkpoints/last", "model/mltrain.json",
    "model/model.safetensors", "reports/curves.png", "reports/samples_train.png", "reports/confusion_matrix_train.png",
    "reports/confusion_matrix_val.png", "reports/confusion_matrix_test.png",
]  # fmt: skip
METRICS = {"loss", "accuracy", "f1_macro", "precision_macro", "recall_macro"}
WITHOUT_MLFLOW = {"tracking.mlflow.enabled": False}


def paint(path: Path, label: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 200, (12, 12), dtype=np.uint8)
    pixels[:, 6 * label : 6 * label + 6] += 25
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_project(project: Path) -> dict[str, Any]:
    """Make images, splits and a git repository; returns the configuration."""
    for label, name in enumerate(("left", "right")):
        for number in range(30):
            paint(project / "data" / "halves" / "raw" / name / f"{number:02d}.png", label, seed=50 * label + number)
    mltrain.split_folder(project / "data" / "halves" / "raw", folds=3, test_ratio=0.3)
    (project / ".gitignore").write_text("*\n")
    git = ["git", "-C", str(project), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "first"], check=True)
    return {
        "task": "image_classification",
        "data": {
            "data_dir": str(project / "data" / "halves"),
            "image_size": 8,
            "image_mode": "L",
            "num_workers": 0,
            "transforms": {"normalize": "half"},
        },
        "model": {"architecture": "tiny_net"},
        "training": {"num_epochs": 3, "batch_size": 8},
        "tracking": {
            "log_every_n_steps": 2,
            "mlflow": {"experiment": "contents", "tracking_uri": f"sqlite:///{project}/mlflow.db"},
        },
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(project / "runs"), "description": "a run of the tests", "tags": {"team": "blue"}},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run, a second of the same name, and one that failed."""
    project = tmp_path_factory.mktemp("project")
    config, before = make_project(project), Path.cwd()
    os.chdir(project)
    try:
        result = mltrain.train(config)
        second = mltrain.train(config, WITHOUT_MLFLOW)
        with pytest.raises(NonFiniteLossError):
            mltrain.train(config, {"run.name": "failed", "optimizer.lr": 1e38, "training.max_grad_norm": None})
    finally:
        os.chdir(before)
    commit = subprocess.run(
        ["git", "-C", str(project), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return SimpleNamespace(
        project=project,
        folder=result.folder,
        second=second,
        summary=read_json(result.folder / "summary.json"),
        config=config,
        commit=commit.stdout.strip(),
        client=MlflowClient(config["tracking"]["mlflow"]["tracking_uri"]),
    )


@pytest.fixture(scope="module")
def tracked(run: Any) -> dict[str, Run]:
    """The MLflow runs, by name."""
    experiment = run.client.get_experiment_by_name("contents")
    return {found.info.run_name: found for found in run.client.search_runs([experiment.experiment_id])}


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_there_and_holds_something(run: Any, name: str) -> None:
    assert (run.folder / name).stat().st_size > 0


def test_nothing_unfinished_is_left(run: Any) -> None:
    odd = [path.name for path in run.folder.rglob("*") if re.search(r"^\.(tmp|trash)-|\.tmp$", path.name)]
    assert odd == []
    for path in run.folder.glob("checkpoints/step-*"):
        verify_manifest(path)


def test_the_summary_has_the_keys_of_the_contract(run: Any) -> None:
    summary = run.summary
    contract = {
        "status", "run_name", "trainer", "task", "num_processes", "epochs", "steps", "samples_seen", "best",
        "train", "val", "test", "model_digest", "timing",
    }  # fmt: skip
    assert set(summary) == contract | {"reason", "mltrain", "finished", "num_epochs", "weights"}
    assert set(summary["best"]) >= {"metric", "value", "epoch", "step"}
    assert set(summary["timing"]) == {"total_s", "train_s", "samples_per_s", "data_wait_s"}
    assert all(set(summary[split]) == METRICS for split in ("train", "val", "test"))


def test_the_summary_counts_rightly(run: Any) -> None:
    summary = run.summary
    assert (summary["status"], summary["reason"], summary["run_name"]) == ("completed", "", "halves_fold_0")
    assert (summary["trainer"], summary["task"], summary["num_processes"]) == ("standard", "image_classification", 1)
    assert (summary["epochs"], summary["steps"], summary["samples_seen"]) == (3, 3 * 4, 3 * 28)
    timing = summary["timing"]
    assert 0 < timing["train_s"] <= timing["total_s"]
    assert 0 <= timing["data_wait_s"] <= timing["train_s"]
    assert timing["samples_per_s"] == pytest.approx(84 / timing["train_s"], rel=0.05)


def test_the_best_is_the_best_of_the_log(run: Any) -> None:
    values = [(record["step"], record["val/accuracy"]) for record in records(run.folder) if "val/accuracy" in record]
    step, value = max(values, key=lambda pair: (pair[1], -pair[0]))
    best = run.summary["best"]
    assert (best["metric"], best["value"], best["step"]) == ("val/accuracy", value, step)
    assert best["epoch"] == step // 4
    assert run.summary["val"]["accuracy"] == value
    assert (run.folder / "checkpoints" / "best").read_text().strip() == f"step-{step:08d}"


def test_the_digest_is_that_of_the_packed_model(run: Any) -> None:
    assert run.summary["model_digest"] == model_digest(mltrain.load_model(run.folder).module.state_dict())


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_figures_equal_an_evaluation_by_hand(run: Any, split: str) -> None:
    module = mltrain.load_model(run.folder).module
    task = ImageClassification(load_config(run.folder / "config.yaml", {}, task_config_class).config)
    dataset = task.datasets()[split]
    batch = task.collate([dataset.load(index, None) for index in range(len(dataset))])
    with torch.inference_mode():
        logits = logits_of(module(task.pipeline.normalization.apply(batch["pixels"])))
    true, predicted = batch["labels"].numpy(), logits.argmax(dim=1).numpy()
    by_hand = {
        "loss": torch.nn.functional.cross_entropy(logits, batch["labels"]).item(),
        "accuracy": float((true == predicted).mean()),
        "f1_macro": f1_score(true, predicted, average="macro", zero_division=0),
        "precision_macro": precision_score(true, predicted, average="macro", zero_division=0),
        "recall_macro": recall_score(true, predicted, average="macro", zero_division=0),
    }
    assert run.summary[split] == pytest.approx(by_hand, rel=1e-5)
    report = (run.folder / "logs" / f"classification_report_{split}.txt").read_text()
    assert f"{by_hand['accuracy']:.4f}" in report
    assert f"{by_hand['f1_macro']:.4f}" in report


def test_the_pictures_open_and_are_not_blank(run: Any) -> None:
    pictures = sorted((run.folder / "reports").glob("*.png"))
    assert len(pictures) == 5
    for path in pictures:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert min(pixels.shape[:2]) >= 300
        assert pixels.std() > 10
        assert 0.02 < (pixels != pixels[0, 0]).any(axis=2).mean() < 0.95  # drawn on paper


def test_metadata_says_what_the_run_was_made_with(run: Any) -> None:
    metadata = read_json(run.folder / "metadata.json")
    assert metadata["git"] == {"commit": run.commit, "dirty": False}
    assert metadata["packages"]["torch"] == torch.__version__
    assert metadata["command_line"]
    assert metadata["data"]["classes"] == ["left", "right"]
    assert re.fullmatch(r"[0-9a-f]{64}", metadata["data"]["digest"])
    assert f"torch=={torch.__version__}\n" in (run.folder / "requirements.txt").read_text()


def test_the_log_tells_the_story(run: Any) -> None:
    text = (run.folder / "logs" / "train.log").read_text()
    for told in ("Run halves_fold_0", "Samples: train 28, val 14, test 18", "epoch 3/3", "difference in %", "MLflow: "):
        assert told in text
    assert "\x1b" not in text
    assert not re.search(r" (WARNING|ERROR|CRITICAL) ", text)


def test_mlflow_has_every_value_at_its_step(run: Any, tracked: dict[str, Run]) -> None:
    expected: dict[str, list[tuple[int, float]]] = {}
    for record in records(run.folder):
        for name, value in record.items():
            if name not in ("step", "epoch", "time") and value is not None:
                expected.setdefault(name, []).append((record["step"], value))
    found = tracked["halves_fold_0"]
    assert set(found.data.metrics) == {*expected, "epoch"}
    for name, points in expected.items():
        history = run.client.get_metric_history(found.info.run_id, name)
        assert sorted((point.step, point.value) for point in history) == sorted(points)
    assert {f"test/{name}" for name in METRICS} <= set(expected)
    assert [step for step, _ in expected["train/step_loss"]] == [2, 4, 6, 8, 10, 12]
    assert all(math.isfinite(value) for points in expected.values() for _, value in points)


def test_mlflow_has_parameters_tags_data_and_artifacts(run: Any, tracked: dict[str, Run]) -> None:
    found, metadata = tracked["halves_fold_0"], read_json(run.folder / "metadata.json")
    config = flatten(yaml.safe_load((run.folder / "config.yaml").read_text()))
    params = found.data.params
    assert params["optimizer.lr"] == "0.001"
    assert params["model.architecture"] == "tiny_net"
    assert all(config[name] == value for name, value in params.items())
    assert {name.split(".")[0] for name in params} >= {"data", "model", "training", "optimizer", "scheduler", "seed"}
    assert found.info.status == "FINISHED"
    tags = found.data.tags
    assert (tags["mlflow.source.git.commit"], tags["team"]) == (run.commit, "blue")
    assert (tags["mlflow.note.content"], tags["mltrain.status"]) == ("a run of the tests", "completed")
    (dataset,) = found.inputs.dataset_inputs
    assert dataset.dataset.name == "halves"
    assert metadata["data"]["digest"].startswith(dataset.dataset.digest)
    assert len(dataset.dataset.digest) == 36
    artifacts = {item.path for item in run.client.list_artifacts(found.info.run_id)}
    assert artifacts >= {"reports", "logs", "model", "config.yaml", "metadata.json", "summary.json"}
    for name in ("model/model.safetensors", "config.yaml", "reports/curves.png", "logs/train.log"):
        local = run.client.download_artifacts(found.info.run_id, name, str(Path.cwd()))
        if name != "logs/train.log":
            assert Path(local).read_bytes() == (run.folder / name).read_bytes()


def test_a_failed_run_is_failed_everywhere(run: Any, tracked: dict[str, Run]) -> None:
    summary = read_json(run.project / "runs" / "failed" / "summary.json")
    assert summary["status"] == "failed"
    assert "NonFiniteLossError" in summary["reason"]
    assert summary["model_digest"] is None
    assert summary["best"] is None
    assert "failed" in (run.project / "runs" / "failed" / "summary.txt").read_text()
    assert tracked["failed"].info.status == "FAILED"
    assert tracked["failed"].data.tags["mltrain.status"] == "failed"


def test_a_second_run_of_the_name_is_numbered_and_equal(run: Any, tracked: dict[str, Run]) -> None:
    assert run.second.folder.name == "halves_fold_0_2"
    assert run.second.summary["model_digest"] == run.summary["model_digest"]
    assert set(tracked) == {"halves_fold_0", "failed"}


def test_the_saved_config_repeats_the_run(run: Any) -> None:
    again = mltrain.train(run.folder / "config.yaml", WITHOUT_MLFLOW)
    assert again.summary["model_digest"] == run.summary["model_digest"]
    assert all(again.summary[split] == run.summary[split] for split in ("train", "val", "test"))
    assert again.folder.name == "halves_fold_0_3"
