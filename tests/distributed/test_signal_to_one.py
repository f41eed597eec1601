"""A wish to stop that one process learns of alone, when the others have gone on to something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from double_runs import begin

from mltrain.core.files import read_json


@pytest.mark.parametrize("step", [5, pytest.param(10, marks=pytest.mark.slow)])
def test_a_signal_after_the_last_step_of_an_epoch(vectors: dict[str, Any], tmp_path: Path, step: int) -> None:
    """That step was agreed on without it: the others validate, and learn of it there."""
    settings = {"data.train_size": 49, "training.num_epochs": 2, "training.collective_timeout_s": 30}
    run = begin(vectors, tmp_path, "stopped", (2, 6, 1), settings, stop_at=step)
    summary = read_json(run / "summary.json")
    assert (summary["status"], summary["steps"]) == ("interrupted", step)
    assert (run / "checkpoints" / f"step-{step:08}" / "state.json").is_file()
