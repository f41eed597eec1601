"""Simulated voxels of `configs/fmri_simulated.yaml`: the model finds far more than a linear map does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import mltrain
from mltrain.config.load import load_config
from mltrain.tasks.base import task_config_class
from mltrain.tasks.multimodal_autoencoder import MultimodalTask
from mltrain.workflows.make_data import make_data


@pytest.mark.slow
def test_voxels_and_latent_are_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m benchmarks.brain`: 0.36 by the best linear map, 0.57 by the model, 0.64 at most; latent R^2 0.77."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.brain import latent_recovered, linear_floor, read_split

    make_data("fmri", Path("data/fmri"))
    result = mltrain.train(ROOT / "configs" / "fmri_simulated.yaml", {"tracking.mlflow.enabled": False})
    task = MultimodalTask(load_config(result.folder / "config.yaml", {}, task_config_class).config)
    floor = linear_floor({split: read_split(task, split) for split in ("train", "val", "test")})
    found = result.summary["test"]["voxel_correlation"]
    ceiling = float(np.concatenate(list(task.recordings.ceilings.values())).mean())
    assert (result.folder / "reports" / "voxel_correlation_test.png").is_file()
    assert 0.3 < floor.test < 0.42
    assert found > floor.test + 0.17
    assert 0.85 * ceiling < found < ceiling
    assert latent_recovered(result, task) > 0.7
