"""Our modules in processes of their own: evaluate comes late, nothing is said, written or sent, two at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import socket, sys

def refuse(*_, **__):
    raise AssertionError("a socket was opened")

socket.socket.connect = socket.getaddrinfo = refuse
import torch
import mltrain.tasks.base, mltrain.tasks.image_classification
import mltrain.metrics.further_modules
from mltrain.metrics.squad import squad_figures
from mltrain.tasks.scored_classification import ScoredClassification
from mltrain.tasks.scored_regression import ScoredRegression

late = {"evaluate", "datasets", "sklearn", "pyarrow"} & set(sys.modules)
assert not late, late
for _ in range(20):
    metrics = ScoredClassification(["a", "b"], positive=None)
    metrics.update(torch.eye(2), {"labels": torch.tensor([0, 1])})
    assert metrics.compute()["auroc"] == 1
    metrics = ScoredRegression()
    metrics.update(torch.arange(3.0), {"targets": torch.arange(3.0)})
    assert metrics.compute()["mae"] == 0
    assert squad_figures(["a cat"], [["cat"]])["exact_match"] == 1
assert "evaluate" in sys.modules
"""


@pytest.mark.slow
def test_two_at_once_without_a_network_or_a_cache(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment = {
        **kept,
        "HF_HOME": str(tmp_path / "hub"),
        "TMPDIR": str(tmp_path / "scratch"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error::UserWarning", "-c", PROGRAM]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    for process in both:
        said, _ = process.communicate(timeout=300)
        assert (process.returncode, said) == (0, "")
    assert not (tmp_path / "hub").exists()
    # torch makes an empty folder of its own.
    assert {path.name.partition("_")[0] for path in (tmp_path / "scratch").rglob("*")} <= {"torchinductor"}
