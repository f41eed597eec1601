"""A run that begins with given weights continues without them, records them, and is not begun again with others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mltrain
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import read_json
from mltrain.workflows.rerun import rerun


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """The configuration of a run on noise that starts from the weights of another run, `runs/source`."""
    for label in ("dark", "light"):
        for number in range(10):
            path = tmp_path / "data" / "raw" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            low = 128 if label == "light" else 0
            pixels = np.random.default_rng(number).integers(low, low + 128, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    mltrain.split_folder(tmp_path / "data" / "raw", folds=2)
    common = {
        "task": "image_classification",
        "data": {"data_dir": "data", "image_size": 8, "image_mode": "L", "num_workers": 0,
                 "transforms": {"normalize": "none"}},
        "model": {"architecture": "tiny_net"},
        "training": {"num_epochs": 1, "batch_size": 4},
        "tracking": {"mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
    }  # fmt: skip
    mltrain.train(common, {"run.name": "source"}, verbose=False)
    return common | {"model": {"architecture": "tiny_net", "weights": "runs/source"}, "run": {"name": "tuned"}}


@pytest.mark.slow
def test_it_is_extended_without_its_source_and_still_says_where_it_began(settings: dict[str, Any]) -> None:
    tuned = mltrain.train(settings, {"checkpointing.selection": "last"}, verbose=False)
    began = read_json(tuned.folder / "metadata.json")["initial_weights"]
    assert began["source"] == "source"
    shutil.move("runs/source", "moved")
    resumed = mltrain.train(overrides={"training.num_epochs": 2}, resume=tuned.folder, verbose=False)
    assert resumed.summary["model_digest"] != tuned.summary["model_digest"]
    assert resumed.summary["steps"] == 2 * tuned.summary["steps"]
    assert read_json(resumed.folder / "model" / "mltrain.json")["initial_weights"] == began


@pytest.mark.slow
def test_other_weights_are_refused_where_the_run_would_begin_again(settings: dict[str, Any]) -> None:
    tuned = mltrain.train(settings, verbose=False)
    shutil.rmtree(tuned.folder / "checkpoints")
    (tuned.folder / "summary.json").unlink()
    mltrain.train(settings, {"model.weights": None, "run.name": "other", "seed": 7}, verbose=False)
    shutil.copy("runs/other/model/model.safetensors", "runs/source/model/model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.weights \(sha256 of its files\)"):
        mltrain.train(resume=tuned.folder, verbose=False)
    with pytest.raises(DataError, match=r"model\.weights are not those of the run"):
        rerun(tuned.folder)
