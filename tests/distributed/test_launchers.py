"""`ml-train`, `python -m mltrain`, `accelerate launch mltrain` and `accelerate launch -m mltrain` are the same job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from mltrain.core.files import read_json

ACCELERATE = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--num_processes",
    "1",
    "--num_machines",
    "1",
    "--cpu",
]
LAUNCHERS = {
    "ml-train": [str(Path(sys.executable).parent / "ml-train")],
    "python -m mltrain": [sys.executable, "-m", "mltrain"],
    "accelerate launch mltrain": [*ACCELERATE, "mltrain"],
    "accelerate launch -m mltrain": [*ACCELERATE, "-m", "mltrain"],
}


@pytest.fixture(scope="module")
def expected(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(train_vectors({"run.dir": str(tmp_path_factory.mktemp("expected"))}).summary["model_digest"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "trainer"),
    [
        ("ml-train", "standard"),
        ("ml-train", "accelerate"),
        ("python -m mltrain", "standard"),
        ("python -m mltrain", "accelerate"),
        ("accelerate launch mltrain", "standard"),
        ("accelerate launch mltrain", "accelerate"),
        ("accelerate launch -m mltrain", "standard"),
        ("accelerate launch -m mltrain", "accelerate"),
    ],
)
def test_same_digest(launcher: str, trainer: str, vectors: dict[str, Any], expected: str, tmp_path: Path) -> None:
    if launcher == "ml-train" and not shutil.which(LAUNCHERS[launcher][0]):
        pytest.fail("ml-train is not installed beside this Python")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(vectors))
    command = [*LAUNCHERS[launcher], "--config", str(config), "--trainer", trainer, f"run.dir={tmp_path}/runs"]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (run,) = (tmp_path / "runs").iterdir()
    assert read_json(run / "summary.json")["model_digest"] == expected
