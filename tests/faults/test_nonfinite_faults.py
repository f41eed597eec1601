"""A loss that is not finite on one process of two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import check
from warm_commands import ranks

from mltrain.core.files import read_json
from mltrain.data.plan import Cut, ShuffledPlan

WINDOW = 8


def sample_of_rank_one() -> tuple[int, int]:
    """Return a sample of the first epoch that rank 1 computes, not in the first window, and its window (from 0)."""
    share = Cut(rank=1, processes=2, batch_size=4).share(ShuffledPlan(50, WINDOW, 42).window(0, 2))
    return int(share.microbatches[0][1]), 2


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_fault_40_a_loss_of_one_process_is_not_finite(vectors: dict[str, Any], tmp_path: Path, policy: str) -> None:
    sample, window = sample_of_rank_one()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(vectors))
    words = ["mltrain", "--config", str(config), "--trainer", "accelerate", "--num_epochs", "1", "--batch_size", "4"]
    words += [f"data.bad_sample={sample}", f"training.on_nonfinite={policy}", "--run_name", "it"]
    main, other = (command.end() for command in ranks(words, tmp_path, {}))
    check(40, main, policy, step=window + 1, sample=f"train/{sample}")
    assert other.returncode == main.returncode
    assert "Traceback" not in other.stderr
    run = tmp_path / "runs" / "it"
    assert read_json(run / "summary.json")["steps"] == (window if policy == "stop" else 7)
