"""Voxels over two processes: the sums of both make the correlations of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from recordings import recordings_config, write_recordings
from runs import largest_difference, weights

import mltrain
from mltrain.core.files import read_json


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    config = recordings_config(write_recordings(tmp_path / "fmri"), tmp_path)
    one = mltrain.train(config, {"run.name": "one"})
    config["training"] |= {"batch_size": 8}
    config["run"]["name"] = "two"
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mltrain", "--config", str(tmp_path / "c.yaml"), "--num_processes", "2"]
    result = subprocess.run(
        [*command, "training.trainer_type=accelerate"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert read_json(tmp_path / "two" / "summary.json")["num_processes"] == 2
    assert largest_difference(weights(one.folder), weights(tmp_path / "two")) < 1e-5
    for split in ("train", "val", "test"):
        two = read_json(tmp_path / "two" / "summary.json")[split]
        assert two == pytest.approx(one.summary[split], rel=1e-4, abs=1e-5)
        reports = [folder / "reports" / f"voxels_{split}.txt" for folder in (one.folder, tmp_path / "two")]
        assert len(reports[0].read_text().splitlines()) == len(reports[1].read_text().splitlines()) == 3
