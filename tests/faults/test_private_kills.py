"""Private runs killed anywhere: the ledger never counts too few steps, the budget holds, and no noise comes twice."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from private_runs import PrivateRun, private_config

from mltrain.privacy.accounting import Accountant
from mltrain.tracking.metrics_log import read_metrics

pytestmark = pytest.mark.slow

SAMPLES, BATCH, EPOCHS = 200, 10, 3
PLANNED = EPOCHS * SAMPLES // BATCH
AFFORDED = 48
ACCOUNTANT = Accountant(BATCH / SAMPLES, 1.0, 1e-4, "rdp")
# In the order of a step; how often a life comes there before it dies.
PLACES = [("counted", 6), ("counting", 4), ("stepping", 9), ("saved", 2)]
MORE_PLACES = [("noised", 3), ("stepped", 2), ("step end", 5)]


def private_run(vectors: Mapping[str, Any], folder: Path, processes: int = 1, **dp: Any) -> PrivateRun:
    """Return a run whose budget pays for fewer steps than are planned."""
    limits = {"noise_multiplier": 1.0, "target_delta": 1e-4, "target_epsilon": ACCOUNTANT.epsilon(AFFORDED), **dp}
    config = private_config(
        vectors,
        limits,
        data={"train_size": SAMPLES, "val_size": 4},
        checkpointing={"every_n_steps": 4},
    )
    config["training"] |= {"batch_size": BATCH // processes, "num_epochs": EPOCHS}
    return PrivateRun(folder, config, processes)


def check_life(run: PrivateRun) -> None:
    """Assert that the ledger and whatever is told of epsilon cover the steps that the optimizer was given."""
    taken = len(run.noted("stepping"))
    assert taken <= run.ledger_steps <= AFFORDED
    for number, step in enumerate(run.noted("stepping"), start=1):
        assert step["counted"] >= number
        assert step["epsilon"] >= ACCOUNTANT.epsilon(number)


def repeated(run: PrivateRun) -> dict[str, int]:
    """Return how many noises, gradients and non-trivial draws of all lives came before."""
    seen = {
        "noise": [line["noise"] for line in run.noted("noised")],
        "gradients": [line["gradient"] for line in run.noted("stepping")],
        "draws": [str(line["drawn"]) for line in run.noted("stepping") if len(line["drawn"]) > 2],
    }
    return {what: len(values) - len(set(values)) for what, values in seen.items()}


def check_end(run: PrivateRun, deaths: int) -> None:
    """Assert that the run stopped within the budget, that it used what was left, and that its statement is true."""
    taken = len(run.noted("stepping"))
    assert repeated(run) == {"noise": 0, "gradients": 0, "draws": 0}
    statement, summary = run.json("reports/privacy.json"), run.json("summary.json")
    assert summary["status"] == "early_stopped"
    assert taken <= statement["steps"] == run.ledger_steps == AFFORDED
    assert run.ledger_steps - taken <= deaths
    assert ACCOUNTANT.epsilon(taken) <= statement["epsilon"] <= statement["target_epsilon"]
    assert summary["privacy"]["epsilon"] >= ACCOUNTANT.epsilon(taken)
    (*_, told) = [record for record in read_metrics(run.folder / "metrics.jsonl") if "privacy/epsilon" in record]
    assert told["privacy/epsilon"] >= ACCOUNTANT.epsilon(taken)


def test_killed_at_each_place_of_a_step(vectors: Mapping[str, Any], tmp_path: Path) -> None:
    run = private_run(vectors, tmp_path)
    for place, number in PLACES:
        assert run.die_at(place, number), place
        check_life(run)
    run.finish()
    check_life(run)
    check_end(run, len(PLACES))


def test_noise_that_comes_again_would_be_seen(vectors: Mapping[str, Any], tmp_path: Path) -> None:
    """With noise and draws that follow from the seed, which is for tests, a repeated step repeats them."""
    run = private_run(vectors, tmp_path, reproducible=True)
    for place in ("stepping", "stepped"):
        assert run.die_at(place, 7)
    assert min(repeated(run).values()) > 0


def test_killed_in_the_last_step_that_the_budget_pays_for(vectors: Mapping[str, Any], tmp_path: Path) -> None:
    """What is continued then takes no step, and yet tells what was spent."""
    run = private_run(vectors, tmp_path)
    assert run.die_at("counted", 1 + AFFORDED)  # the first line is that of the segment
    check_life(run)
    assert run.ledger_steps == AFFORDED
    run.finish()
    check_end(run, 1)
    assert len(run.noted("stepping")) == AFFORDED - 1


@pytest.mark.faults
@pytest.mark.parametrize(("processes", "lives", "seed"), [(1, 12, 1), (1, 12, 2), (1, 12, 3), (2, 8, 4)])
def test_many_kills_of_private_runs(
    vectors: Mapping[str, Any], tmp_path: Path, processes: int, lives: int, seed: int
) -> None:
    """Alternately at an exact place, and from outside, at a moment that nobody chose."""
    generator = random.Random(seed)
    run, deaths = private_run(vectors, tmp_path, processes), 0
    for life in range(lives):
        if life % 2:
            deaths += run.die_after(generator.randrange(1, 25))
        else:
            place, _ = generator.choice(PLACES + MORE_PLACES)
            deaths += run.die_at(place, generator.randrange(1, 7))
        check_life(run)
        if run.ledger_steps == AFFORDED:
            break
    assert deaths > 2
    run.finish()
    check_life(run)
    check_end(run, deaths)
