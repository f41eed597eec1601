"""A packed model: loads without the run, predicts as the run evaluated, and shows every change of its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import mltrain
from mltrain.config.load import load_config
from mltrain.core.digest import model_digest
from mltrain.core.errors import CheckpointError, ConfigError
from mltrain.core.files import read_json
from mltrain.models.registry import logits_of
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification
from mltrain.tasks.image_prediction import predicted_classes
from mltrain.tasks.package import save_model

SIZES = [(70, 40), (300, 200), (33, 150)]


def paint(path: Path, label: int, seed: int) -> None:
    """Write a photograph-like JPEG, much larger than what the model sees, brighter on the side of its class."""
    generator = np.random.default_rng(seed)
    width, height = SIZES[seed % 3]
    coarse = generator.integers(0, 180, (8, 8, 3), dtype=np.uint8)
    coarse[:, 4 * label : 4 * label + 4] += 60
    noise = generator.integers(0, 15, (height, width, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)) // 2 + noise
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.astype(np.uint8)).save(path, quality=92)


@pytest.fixture(scope="module", params=["simple_cnn", "resnet18"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained run of each kind of model: our own, and one of transformers."""
    project = tmp_path_factory.mktemp(request.param)
    data = project / "data" / "sides"
    for label, name in enumerate(("left", "right")):
        for number in range(20):
            paint(data / "raw" / name / f"{number:02d}.jpg", label, seed=50 * label + number)
    mltrain.split_folder(data / "raw", folds=2, test_ratio=0.4)
    config = {
        "task": "image_classification",
        "data": {"data_dir": str(data), "image_size": 16, "num_workers": 0},
        "model": {"architecture": request.param},
        "training": {"num_epochs": 2, "batch_size": 4},
        "optimizer": {"lr": 0.003},
        "tracking": {"mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(project / "runs")},
    }
    result = mltrain.train(config)
    loaded = load_config(result.folder / "config.yaml", {}, task_config_class)
    return SimpleNamespace(folder=result.folder, summary=result.summary, data=data, config=loaded.config)


@pytest.fixture
def package(run: Any, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(run.folder / "model", tmp_path / "package"))


def test_a_run_folder_and_its_model_folder_load_alike(run: Any) -> None:
    for folder in (run.folder, run.folder / "model", str(run.folder)):
        packed = mltrain.load_model(folder)
        assert model_digest(packed.module.state_dict()) == packed.facts["model_digest"] == run.summary["model_digest"]
        assert not packed.module.training
        assert packed.facts["classes"] == ["left", "right"]
        assert packed.facts["task"] == "image_classification"


def test_prediction_is_what_evaluation_saw(run: Any, package: Path) -> None:
    packed, task = mltrain.load_model(package), ImageClassification(run.config)
    for split, dataset in task.datasets().items():
        items = [dataset.load(index, None) for index in range(len(dataset))]
        paths = [run.data / dataset.sample_id(index) for index in range(len(dataset))]
        with torch.inference_mode():
            outputs = task.losses(packed.module, task.collate(items)).outputs
        rows = packed.predict(paths)
        assert rows == predicted_classes(outputs, task.classes)
        hits = sum(row["class"] == path.parent.name for row, path in zip(rows, paths, strict=True))
        assert hits / len(rows) == pytest.approx(run.summary[split]["accuracy"], abs=1e-9)
        assert all(0.5 <= row["probability"] <= 1 for row in rows)


def test_no_images_give_no_rows(package: Path) -> None:
    assert mltrain.load_model(package).predict([]) == []


def test_the_pipeline_travels_with_the_model(run: Any, package: Path) -> None:
    facts = read_json(package / "mltrain.json")
    assert facts["pipeline"] == ImageClassification(run.config).pipeline.to_json()
    text = json.dumps(facts) + (package / "mltrain.json").read_text()
    assert str(run.data) not in text, "a package does not name the machine it was made on"


def test_tampered_weights_are_refused(package: Path) -> None:
    path = package / "model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    tensors[name] = tensors[name] + 1
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the weights have changed"):
        mltrain.load_model(package)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_weights_are_refused(package: Path, share: float) -> None:
    path = package / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read.*Copy the package again"):
        mltrain.load_model(package)


@pytest.mark.parametrize("folder", [None, 3])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    with pytest.raises(ConfigError, match="load_model: must be a path, is"):
        mltrain.load_model(folder)


def test_the_weights_of_another_model_are_refused_in_one_line(package: Path) -> None:
    save_file({"weight": torch.zeros(3)}, package / "model.safetensors")
    with pytest.raises(CheckpointError, match="holds the weights of another model") as caught:
        mltrain.load_model(package)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"task": "image_classification"}', "\x00"])
def test_damaged_facts_are_refused(package: Path, content: str) -> None:
    (package / "mltrain.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"mltrain\.json: cannot be read"):
        mltrain.load_model(package)


def test_a_folder_without_a_package_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=r"has no mltrain\.json\. Name the model folder"):
            mltrain.load_model(folder)


def test_saving_again_replaces_the_package(run: Any, package: Path) -> None:
    task = ImageClassification(run.config)
    torch.manual_seed(5)
    module = task.build_model()
    digest = save_model(package, "image_classification", task, module)
    assert digest == model_digest(module.state_dict()) != run.summary["model_digest"]
    assert mltrain.load_model(package).facts["model_digest"] == digest


def test_transformers_reads_the_same_folder(run: Any, package: Path) -> None:
    if run.config.model.architecture != "resnet18":
        assert not (package / "config.json").exists()
        return
    from transformers import ResNetForImageClassification

    theirs, info = ResNetForImageClassification.from_pretrained(package, output_loading_info=True)
    assert not any(info.values()), info
    ours = mltrain.load_model(package).module
    assert model_digest(theirs.state_dict()) == run.summary["model_digest"]
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.equal(logits_of(theirs.eval()(pixels)), logits_of(ours(pixels)))
