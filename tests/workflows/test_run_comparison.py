"""Two histories and two digests, compared."""

from __future__ import annotations

from typing import Any

import pytest

from mltrain.workflows.run_comparison import compare_runs

HISTORY: list[dict[str, Any]] = [
    {"step": 2, "epoch": 0, "time": 1.0, "train/step_loss": 0.5, "train/samples_per_s": 10.0, "system/cpu": 3.0},
    {"step": 4, "epoch": 0, "time": 2.0, "train/step_loss": 0.25, "val/loss": None},
    {"step": 4, "epoch": 1, "time": 3.0, "val/loss": 0.125},
]


def changed(index: int, **values: Any) -> list[dict[str, Any]]:
    return [{**record, **(values if number == index else {})} for number, record in enumerate(HISTORY)]


def test_equal_values_and_digests_are_the_same_bits() -> None:
    now = changed(0, time=9.0, **{"train/samples_per_s": 1.0, "system/cpu": 99.0})
    result = compare_runs(HISTORY, now, digest_then="d" * 64, digest_now="d" * 64)
    assert result.same
    assert result.verdict == f"Same bits: the model ({'d' * 16}...) and 4 values of 2 metrics."
    assert result.unmatched == ()


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (changed(1, **{"train/step_loss": 0.26}), "Different: train/step_loss at step 4 was 0.25, is 0.26."),
        (changed(1, **{"val/loss": 1.0}), "Different: val/loss at step 4 was None, is 1.0."),
        (HISTORY[:2], "Different: val/loss at step 4 was 0.125, is 'missing'."),
        ([*HISTORY, {"step": 6, "epoch": 1, "val/loss": 1.0}], "Different: val/loss at step 6 was 'missing', is 1.0."),
    ],
)
def test_the_first_difference_is_named(now: list[dict[str, Any]], verdict: str) -> None:
    result = compare_runs(HISTORY, now, digest_then="a", digest_now="b")
    assert not result.same
    assert result.verdict == verdict


def test_marks_of_what_is_not_private_are_no_values() -> None:
    now = [{**record, "non_private": ["val/loss"], "privacy/epsilon": 1.0 + record["step"]} for record in HISTORY]
    result = compare_runs(HISTORY, now, digest_then="a", digest_now="a")
    assert result.same
    assert result.unmatched == ()


def test_another_model_after_equal_values_is_a_difference() -> None:
    result = compare_runs(HISTORY, HISTORY, digest_then="a", digest_now="b")
    assert not result.same
    assert result.verdict == "Different: the model was a, is b, though 4 values of 2 metrics are equal."


def test_an_interrupted_run_is_compared_as_far_as_it_goes() -> None:
    result = compare_runs(HISTORY[:1], HISTORY, digest_then=None, digest_now="b")
    assert result.same
    assert "as far as the run goes: 1 values of 1 metrics, up to step 2. It has no final model" in result.verdict
    assert result.unmatched == ()
    assert not compare_runs(HISTORY[:1], HISTORY[1:], digest_then=None, digest_now="b").same


def test_a_metric_that_one_run_never_logs_is_told_and_not_compared() -> None:
    now = [{**record, "train/new": 1.0} for record in HISTORY]
    result = compare_runs(HISTORY, now, digest_then="a", digest_now="a")
    assert result.same
    assert result.unmatched == ("train/new",)
