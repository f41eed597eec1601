"""Two and three processes equal one at the same window, in double precision, to 1e-10 after fifty steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from double_runs import WINDOW, assert_equal_runs, begin, continued
from runs import largest_difference, weights

from mltrain.core.files import read_json
from mltrain.core.run_folder import RunFolder

# 49 samples: the last of five windows has one, and all processes but the first have nothing. 53: it has five, and
# microbatches are unequal.
SHORT = {"task": "weighted_double_vectors", "data.train_size": 49, "training.num_epochs": 10}


@pytest.fixture(scope="module")
def one(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, in one microbatch a window."""
    return begin(vectors, tmp_path_factory.mktemp("one"), "one", (1, WINDOW, 1), SHORT)


def test_two_processes_of_three_microbatches_equal_one(one: Path, vectors: dict[str, Any], tmp_path: Path) -> None:
    two = begin(vectors, tmp_path, "two", (2, 2, 3), SHORT)
    assert weights(one)["0.weight"].dtype == torch.float64
    assert_equal_runs(one, two, samples=49, steps=50)


def test_a_run_moves_from_one_process_to_two_and_back(one: Path, vectors: dict[str, Any], tmp_path: Path) -> None:
    """Twice in mid-epoch, by a signal to one process; cut anew for two, and as it began for one."""
    run = begin(vectors, tmp_path, "moved", (1, WINDOW, 1), SHORT, stop_at=12)
    continued(run, 2, stop_at=28)
    continued(run, 1)
    assert_equal_runs(one, run, samples=49, steps=50)
    folder = RunFolder(run)
    metadata = read_json(folder.metadata)
    assert metadata["window_size"] == WINDOW
    assert [len(segment["ranks"]) for segment in metadata["segments"]] == [1, 2, 1]
    assert [segment.get("changes") for segment in metadata["segments"]] == [None, {"training.batch_size": [12, 6]}, {}]
    log = (folder.logs / "train.log").read_text()
    told = "Windows stay 12 samples, in the same order: 2 process(es) x 1 microbatch(es) of 6, instead of 1 x 1 of 12."
    assert log.count(told) == 1
    assert "Changed since the run began" not in log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cut", "samples", "task"),
    [
        ((2, 6, 1), 49, "double_vectors"),
        ((2, 2, 3), 53, "double_vectors"),
        ((2, 6, 1), 53, "weighted_double_vectors"),
        ((3, 4, 1), 49, "double_vectors"),
        ((3, 2, 2), 53, "weighted_double_vectors"),
    ],
    ids=str,
)
def test_other_cuts_equal_one_process(
    vectors: dict[str, Any], tmp_path: Path, cut: tuple[int, int, int], samples: int, task: str
) -> None:
    settings = {**SHORT, "task": task, "data.train_size": samples}
    alone = begin(vectors, tmp_path, "alone", (1, WINDOW, 1), settings)
    assert_equal_runs(alone, begin(vectors, tmp_path, "many", cut, settings), samples=samples, steps=50)


POLICIES: dict[str, dict[str, Any]] = {
    "skip": {"training.on_nonfinite": "skip", "data.bad_sample": 13},
    "rollback": {"training.on_nonfinite": "rollback", "data.bad_sample": 13, "checkpointing.every_n_steps": 2},
    "early stopping": {"early_stopping": {"enabled": True, "patience": 2, "min_delta": 10.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_what_ends_or_spoils_steps_is_agreed_on(vectors: dict[str, Any], tmp_path: Path, policy: str) -> None:
    """The bad sample is on one process only; both leave out its window, or go back."""
    settings = {**SHORT, **POLICIES[policy], "task": "double_vectors"}
    one = begin(vectors, tmp_path, "one", (1, WINDOW, 1), settings)
    two = begin(vectors, tmp_path, "two", (2, 2, 3), settings)
    expected, found = (read_json(run / "summary.json") for run in (one, two))
    for key in ("status", "reason", "steps"):
        assert found[key] == expected[key]
    assert largest_difference(weights(one), weights(two)) < 1e-10
    assert found["val"] == pytest.approx(expected["val"], rel=1e-10)
