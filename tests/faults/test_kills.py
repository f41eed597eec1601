"""Runs that are killed with SIGKILL at random moments, in mid-save too, end with the bits of a run that was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from faults import check_text
from warm_runs import warm_launcher

from mltrain.workflows.killed_run import Kill
from mltrain.workflows.verify_resume import Verification, verify_resume

RUN = {
    "data.train_size": 400,
    "data.val_size": 60,
    "model.dropout": 0.3,
    "training.num_epochs": 2,
    "training.ema": {"enabled": True, "decay": 0.9},
    "tracking.system_metrics.enabled": False,
}
CASES = {
    "standard, 0 workers": (1, {}),
    "standard, 2 workers": (1, {"data.num_workers": 2}),
    "mixed_precision, 0 workers": (1, {"training.trainer_type": "mixed_precision"}),
    "mixed_precision, 2 workers": (1, {"training.trainer_type": "mixed_precision", "data.num_workers": 2}),
    "accelerate, 0 workers": (1, {"training.trainer_type": "accelerate"}),
    "accelerate, 2 workers": (1, {"training.trainer_type": "accelerate", "data.num_workers": 2}),
    "accelerate, 2 processes, 0 workers": (2, {"training.trainer_type": "accelerate"}),
    "accelerate, 2 processes, 2 workers": (2, {"training.trainer_type": "accelerate", "data.num_workers": 2}),
}
SHORT = (
    "standard, 2 workers",
    pytest.param("accelerate, 2 processes, 0 workers", marks=pytest.mark.slow),
    pytest.param("standard, 0 workers", marks=pytest.mark.slow),
    pytest.param("mixed_precision, 0 workers", marks=pytest.mark.slow),
)
KINDS = ("starting", "step", "saving", "validating", "evaluating")
KILLS_EACH = 26


def verify(vectors: Mapping[str, Any], case: str, kills: int) -> Verification:
    """Kill and continue runs of a case, and assert what holds after every kill."""
    processes, settings = CASES[case]
    found = verify_resume(
        vectors, {**RUN, **settings}, kills=kills, num_processes=processes, launcher=warm_launcher(processes)
    )
    assert found.same, f"{case}: {found.verdict} {found.folder}"
    assert len(found.kills) == kills
    for kill in found.kills:
        assert kill.doing in KINDS
        # Nothing that was committed is passed over: no kill has damaged a checkpoint.
        assert kill.resumed_from == kill.newest, kill
    return found


@pytest.fixture(scope="module")
def counts() -> Iterator[dict[str, Counter[str]]]:
    """(case) -> how many kills hit what; printed as a table at the end."""
    table: dict[str, Counter[str]] = {}
    yield table
    print(f"\n{'':<36}" + "".join(f"{kind:>12}" for kind in (*KINDS, "all")))
    for case, row in [*table.items(), ("all", sum(table.values(), Counter[str]()))]:
        print(f"{case:<36}" + "".join(f"{row[kind]:>12}" for kind in KINDS) + f"{row.total():>12}")


@pytest.mark.parametrize("case", SHORT)
def test_fault_31_killed_at_random_moments_and_resumed_to_the_same_bits(
    vectors: dict[str, Any], counts: dict[str, Counter[str]], case: str
) -> None:
    found = verify(vectors, case, kills=3)
    check_text(31, f"PASS: {found.verdict}")
    counts[case] = Counter(kill.doing for kill in found.kills)


@pytest.mark.faults
@pytest.mark.parametrize("case", CASES)
def test_many_kills(vectors: dict[str, Any], counts: dict[str, Counter[str]], case: str) -> None:
    kills: tuple[Kill, ...] = verify(vectors, case, KILLS_EACH).kills
    counts[case] = Counter(kill.doing for kill in kills)
    assert counts[case]["saving"] > 0
    assert counts[case]["step"] > 0


@pytest.mark.faults
def test_at_least_two_hundred_kills_of_every_kind(counts: dict[str, Counter[str]]) -> None:
    total = sum(counts.values(), Counter[str]())
    assert total.total() >= 200
    assert all(total[kind] > 0 for kind in KINDS), total
