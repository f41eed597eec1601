"""The first five minutes: `make demo`, and every ready configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from mltrain.core.files import read_json


@pytest.mark.slow
def test_make_demo_reaches_97_percent_and_says_where_the_run_is(tmp_path: Path) -> None:
    """In a clone of its own, with the environment that is installed already."""
    clone = tmp_path / "clone"
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, files)):
        if (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_bytes((ROOT / name).read_bytes())
    (clone / ".venv" / "bin").mkdir(parents=True)
    for tool in ("python", "mltrain", "ml-split", "ml-train"):
        (clone / ".venv" / "bin" / tool).symlink_to(Path(sys.executable).parent / tool)
    (clone / ".venv" / "installed").touch()
    result = subprocess.run(["make", "demo"], cwd=clone, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    summary = read_json(clone / "runs" / "digits_fold_0" / "summary.json")
    assert summary["test"]["accuracy"] >= 0.97
    last = result.stderr.strip().splitlines()[-2:]
    assert "runs/digits_fold_0" in last[0]
    assert "mltrain ui" in last[1]


@pytest.mark.slow
def test_a_plain_installation_holds_the_whole_package(tmp_path: Path) -> None:
    """`pip install .`, its dependencies left out: they are here. Run from elsewhere, so that the checkout is unseen."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    shutil.copytree(ROOT / "mltrain", source / "mltrain", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"), "."]
    subprocess.run(pip, cwd=source, check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    program = "import mltrain.workflows.train as module; print(module.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith(str(tmp_path / "site"))
    installed = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site" / "mltrain").rglob("*.py")}
    assert installed == {path.relative_to(ROOT) for path in (ROOT / "mltrain").rglob("*.py")}
    assert (tmp_path / "site" / "mltrain" / "py.typed").exists()


@pytest.mark.slow
def test_the_private_configuration_learns_the_digits_within_its_budget(tmp_path: Path) -> None:
    run(tmp_path, "mltrain", "make-data", "digits", "--output", "data/digits")
    run(tmp_path, "ml-split", "--raw_data", "data/digits/raw", "--folds", "5")
    run(tmp_path, "ml-train", "--config", str(ROOT / "configs/digits_private.yaml"), "--run_name", "it")
    folder = tmp_path / "runs" / "it"
    assert 2.5 < read_json(folder / "reports" / "privacy.json")["epsilon"] <= 3.0
    # Draws and noise are new each time: 0.94 on average, with a standard deviation of 0.01.
    assert read_json(folder / "summary.json")["test"]["accuracy"] > 0.88


@pytest.fixture
def photographs(hymenoptera: Path, tmp_path: Path) -> Path:
    """A folder where the photographs are split."""
    (tmp_path / "data" / "hymenoptera").mkdir(parents=True)
    (tmp_path / "data" / "hymenoptera" / "raw").symlink_to(hymenoptera / "raw")
    run(tmp_path, "ml-split", "--raw_data", "data/hymenoptera/raw", "--folds", "5")
    return tmp_path


def run(folder: Path, name: str, *arguments: str) -> None:
    command = [str(Path(sys.executable).parent / name), *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_photographs_beat_the_majority_class(photographs: Path) -> None:
    """Ants and bees at 64 pixels, from the command line."""
    run(photographs, "ml-train", "--config", str(ROOT / "configs/hymenoptera.yaml"), "--fold", "0", "--run_name", "it")
    folder = photographs / "runs" / "it"
    report = (folder / "logs" / "classification_report_test.txt").read_text().splitlines()
    support = [float(line.split()[-1]) for line in report if line.strip().startswith(("ants", "bees"))]
    assert sum(support) == 60
    assert read_json(folder / "summary.json")["test"]["accuracy"] > max(support) / sum(support) + 0.1


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_configuration_with_augmentation_trains(photographs: Path) -> None:
    config = str(ROOT / "configs" / "hymenoptera_resnet18.yaml")
    run(
        photographs,
        "ml-train",
        "--config",
        config,
        "--num_epochs",
        "1",
        "--run_name",
        "it",
        "scheduler.warmup_epochs=0",
    )
    assert read_json(photographs / "runs" / "it" / "summary.json")["status"] == "completed"
