"""Two processes equal one at the same window; evaluation counts each sample once; a run moves between them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from runs import history, largest_difference, weights

from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json

LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "no"]


def launch(arguments: list[str], *, port: int, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the job in two processes on this machine's CPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *LAUNCH, "--main_process_port", str(port), *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def pair(vectors: dict[str, Any], train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One job in one process and in two: 49 samples, so that the last window has one, and one rank nothing."""
    folder = tmp_path_factory.mktemp("pair")
    settings = {
        "data.train_size": 49,
        "data.val_size": 3,
        "training.ema": {"enabled": True, "decay": 0.9},
        "run.dir": str(folder),
        "run.name": "one",
    }
    one = train_vectors(settings)
    assert one.summary["steps"] == 21
    config = folder / "config.yaml"
    content = yaml.safe_load((one.folder / "config.yaml").read_text())
    content["run"]["name"] = "two"
    content["training"] |= {"batch_size": 2, "gradient_accumulation_steps": 2, "trainer_type": "accelerate"}
    config.write_text(yaml.safe_dump(content))
    result = launch(["-m", "mltrain", "--config", str(config)], port=29611)
    assert result.returncode == 0, result.stderr[-2000:]
    return one.folder, folder / "two"


def test_two_processes_equal_one(pair: tuple[Path, Path]) -> None:
    one, two = pair
    assert read_json(two / "summary.json")["num_processes"] == 2
    assert largest_difference(weights(one), weights(two)) < 1e-6


def test_metrics_count_every_sample_once(pair: tuple[Path, Path]) -> None:
    one, two = (read_json(folder / "summary.json") for folder in pair)
    for split in ("train", "val", "test"):
        assert two[split] == pytest.approx(one[split], rel=1e-5)
    assert two["samples_seen"] == one["samples_seen"] == 3 * 49


def test_history_is_the_same_and_written_once(pair: tuple[Path, Path]) -> None:
    one, two = (history(folder) for folder in pair)
    assert [sorted(record) for record in one] == [sorted(record) for record in two]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs == pytest.approx(mine, rel=1e-4, abs=1e-6)


def test_a_run_of_two_processes_continues_in_one(pair: tuple[Path, Path], train_vectors: Any) -> None:
    """The window stays what it was: 2 processes x 2 x 2 becomes 1 x 4 x 2."""
    changed = {"training.num_epochs": 4, "training.trainer_type": "standard"}
    continued = train_vectors(changed, config=None, resume=pair[1])
    assert continued.summary["steps"] == 28
    assert continued.summary["num_processes"] == 1
    changes = read_json(continued.folder / "metadata.json")["segments"][-1]["changes"]
    assert changes["training.gradient_accumulation_steps"] == [2, 4]


def test_another_window_is_refused(pair: tuple[Path, Path], train_vectors: Any) -> None:
    with pytest.raises(ConfigError, match=r"is 16, which does not fit the windows of this run: 8 samples"):
        train_vectors({"training.batch_size": 16, "training.num_epochs": 5}, config=None, resume=pair[0])


def test_standard_in_two_processes_is_refused_in_one_line(vectors: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(vectors))
    # The folder form that `accelerate launch mltrain` takes from the repository's root.
    result = launch([str(ROOT / "mltrain"), "--config", str(config)], port=29612, cwd=tmp_path)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert "standard trains in one process, but 2 were launched" in lines[0]
    assert not (tmp_path / "runs").exists()
