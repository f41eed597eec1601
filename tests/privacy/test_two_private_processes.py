"""Two private processes equal one, empty draws and all; they draw apart, and one of them adds the noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from private_runs import PrivateRun, private_config
from runs import largest_difference, weights

from mltrain.checkpoints.store import CheckpointStore

pytestmark = pytest.mark.slow

SAMPLES, BATCH, EPOCHS = 64, 4, 3
STEPS = EPOCHS * SAMPLES // BATCH
NOISE, CLIP = 300.0, 0.5


def trained(vectors: Mapping[str, Any], folder: Path, processes: int, draws: str, **dp: Any) -> PrivateRun:
    """Train by plain gradient descent at a constant rate."""
    config = private_config(
        vectors,
        {"max_grad_norm": CLIP, **dp},
        data={"train_size": SAMPLES, "val_size": 4},
        optimizer={"name": "sgd", "lr": 0.5, "momentum": 0.0},
        scheduler={"name": "none"},
    )
    config["training"] |= {"batch_size": BATCH // processes, "num_epochs": EPOCHS}
    run = PrivateRun(folder, config, processes)
    run.finish(**({"DRAWS": draws} if draws else {}))
    return run


@pytest.fixture(scope="module")
def exact(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateRun, PrivateRun]:
    """One run without noise, in one process and in two."""
    folder = tmp_path_factory.mktemp("exact")
    settings = {"noise_multiplier": 0.0, "reproducible": True}
    one, two = (trained(vectors, folder / str(count), count, "GivenPlan", **settings) for count in (1, 2))
    return one, two


@pytest.fixture(scope="module")
def noisy(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> PrivateRun:
    """A run of two processes that draw for themselves, with so much noise that next to nothing else is seen."""
    return trained(vectors, tmp_path_factory.mktemp("noisy"), 2, "", noise_multiplier=NOISE)


def test_without_noise_two_processes_equal_one(exact: tuple[PrivateRun, PrivateRun]) -> None:
    one, two = exact
    assert largest_difference(weights(one.folder), weights(two.folder)) < 1e-6
    norms = [[line["squares"] ** 0.5 for line in run.noted("stepping")] for run in exact]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert max(norms[0]) > 0.1


def test_some_draws_of_one_rank_and_of_all_are_empty(exact: tuple[PrivateRun, PrivateRun]) -> None:
    one, two = exact
    whole = [line["drawn"] for line in one.noted("stepping")]
    parts = [[line["drawn"] for line in two.noted("stepping", rank)] for rank in (0, 1)]
    assert [sorted(mine + theirs) for mine, theirs in zip(*parts, strict=True)] == whole
    empty = [(not mine, not theirs) for mine, theirs in zip(*parts, strict=True)]
    assert {(False, False), (False, True), (True, True)} <= set(empty)
    squares = [line["squares"] for line in one.noted("stepping")]
    assert [value == 0 for value in squares] == [not drawn for drawn in whole]


@pytest.mark.parametrize("name", ["exact", "noisy"])
def test_every_rank_takes_every_step_to_the_same_weights(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    run = run[1] if name == "exact" else run
    for rank in (0, 1):
        assert [line["counted"] for line in run.noted("stepping", rank)] == list(range(1, STEPS + 1))
    ends = [[line["weights"] for line in run.noted("step end", rank)] for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert len(set(ends[0])) > STEPS // 2
    gradients = [[line["gradient"] for line in run.noted("stepping", rank)] for rank in (0, 1)]
    assert gradients[0] == gradients[1]


@pytest.mark.parametrize("name", ["exact", "noisy"])
def test_one_ledger_counts_for_both(name: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    run = run[1] if name == "exact" else run
    assert run.ledger_steps == STEPS == run.json("reports/privacy.json")["steps"]
    assert (len(run.noted("counted")), len(run.noted("counted", 1))) == (STEPS + 1, 0)  # one for the segment
    newest = CheckpointStore(run.folder / "checkpoints").list()[0]
    assert run.json(f"checkpoints/{newest.name}/state.json")["trainer"]["ledger"]["steps"] == STEPS


def test_noise_comes_from_one_rank_at_its_scale(noisy: PrivateRun) -> None:
    """Noise of both ranks would have a standard deviation 1.41 times as large; of neither, none."""
    steps = noisy.noted("stepping")
    assert len(steps) == STEPS
    deviation = (sum(line["squares"] for line in steps) / sum(line["count"] for line in steps)) ** 0.5
    assert deviation == pytest.approx(NOISE * CLIP / BATCH, rel=0.03)
    assert (len(noisy.noted("noised")), len(noisy.noted("noised", 1))) == (STEPS, 0)
    assert len({line["noise"] for line in noisy.noted("noised")}) == STEPS


def test_ranks_draw_apart(noisy: PrivateRun) -> None:
    drawn = [[line["drawn"] for line in noisy.noted("stepping", rank)] for rank in (0, 1)]
    sizes = np.array([[len(window) for window in windows] for windows in drawn])
    assert all(index % 2 == rank for rank in (0, 1) for window in drawn[rank] for index in window)
    assert abs(np.corrcoef(sizes)[0, 1]) < 0.7
    assert (sizes[0] != sizes[1]).mean() > 0.3
    mean = STEPS * BATCH
    assert abs(int(sizes.sum()) - mean) < 6 * mean**0.5
