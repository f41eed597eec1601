"""The audit of the private step: it passes as it is, and fails with each planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mltrain.privacy import canaries
from mltrain.privacy.audit import AuditResult, audit
from mltrain.privacy.canaries import AuditedSteps, observe
from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.noise import NoiseSource
from mltrain.privacy.poisson_plan import Indices, PoissonPlan
from mltrain.privacy.trade_off import private_steps

KEY = bytes(range(32))
DELTA = 1e-5
FULL = AuditedSteps(1, 1, 1, noise_multiplier=1.5, max_grad_norm=0.7, mode="ghost")
SAMPLED = AuditedSteps(1000, 100, 40, noise_multiplier=1.4, max_grad_norm=2.0, mode="ghost")

Patch = pytest.MonkeyPatch


def audited(steps: AuditedSteps, key: bytes = KEY) -> AuditResult:
    """Attack steps that claim what is true of them."""
    claim = private_steps(steps.sample_rate, steps.noise_multiplier, steps.steps).epsilon(DELTA)
    return audit(steps, claim, DELTA, key=key)


def plant_noise(factor: float) -> Callable[[Patch], None]:
    """Return what makes the noise smaller than configured."""

    class Weaker(NoiseSource):
        def draw(self, count: int) -> torch.Tensor:
            return super().draw(count) * factor

    return lambda patch: patch.setattr(canaries, "NoiseSource", Weaker)


def plant_clipping(patch: Patch) -> None:
    """Clip to ten times the norm that is configured."""

    class Looser(ClippedGradients):
        def __init__(self, model: torch.nn.Module, max_grad_norm: float, mode: str) -> None:
            super().__init__(model, 10 * max_grad_norm, mode)  # type: ignore[arg-type]

    patch.setattr(canaries, "ClippedGradients", Looser)


def plant_draws(patch: Patch) -> None:
    """Let every step see every example, whatever the sample rate."""

    class Whole(PoissonPlan):
        def window(self, epoch: int, index: int) -> Indices:
            return np.arange(self.num_samples)

    patch.setattr(canaries, "PoissonPlan", Whole)


FAULTS = {
    "noise / 4": plant_noise(0.25),
    "no noise": plant_noise(0.0),
    "C x 10": plant_clipping,
}


@pytest.mark.parametrize("mode", ["ghost", "hooks"])
@pytest.mark.parametrize("steps", [FULL, SAMPLED], ids=["full", "sampled"])
def test_the_step_as_it_is_passes(steps: AuditedSteps, mode: str) -> None:
    result = audited(replace(steps, mode=mode))
    assert result.passed
    assert not result.is_blind
    assert result.verdict.startswith("The claim stands")
    # The attack works: far more guesses are right than by chance, and some leak is proven.
    assert result.correct > 0.6 * result.guesses
    assert 0.1 < result.f_dp_bound < result.claimed_epsilon


@pytest.mark.parametrize(("steps", "mode"), [(FULL, "ghost"), (FULL, "hooks"), (SAMPLED, "hooks")])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_audit_fails_with_a_planted_fault(fault: str, steps: AuditedSteps, mode: str, monkeypatch: Patch) -> None:
    FAULTS[fault](monkeypatch)
    result = audited(replace(steps, mode=mode))
    assert not result.passed
    assert result.verdict.startswith("The step is less private than it claims")
    assert result.f_dp_bound > result.claimed_epsilon
    assert result.lower_bound <= result.reachable


def test_the_audit_fails_where_examples_are_drawn_more_often_than_claimed(monkeypatch: Patch) -> None:
    plant_draws(monkeypatch)
    assert not audited(SAMPLED).passed


@pytest.mark.slow
@pytest.mark.parametrize("steps", [FULL, SAMPLED], ids=["full", "sampled"])
def test_with_many_keys_there_is_no_false_alarm_and_no_miss(steps: AuditedSteps, monkeypatch: Patch) -> None:
    keys = [bytes([number]) * 32 for number in range(10)]
    assert all(audited(steps, key).passed for key in keys)
    for plant in FAULTS.values():
        with monkeypatch.context() as patch:
            plant(patch)
            assert not any(audited(steps, key).passed for key in keys)


def test_an_attack_that_could_not_refute_the_claim_says_so() -> None:
    result = audit(replace(SAMPLED, steps=1), 5.0, DELTA, canaries=200, key=KEY)
    assert result.passed
    assert result.is_blind
    assert result.verdict.startswith("Nothing is shown")


def test_the_outcome_follows_from_the_key_alone() -> None:
    assert audited(FULL) == audited(FULL)
    first, second = (observe(FULL, 300, key) for key in (KEY, KEY[::-1]))
    assert not np.array_equal(first.included, second.included)
    assert not np.array_equal(first.noise, second.noise)
    drawn = [audit(FULL, 3.0, DELTA, canaries=200).correct for _ in range(6)]
    assert len(set(drawn)) > 1


@pytest.mark.parametrize("mode", ["ghost", "hooks"])
def test_without_noise_each_drawn_canary_adds_exactly_one_clipping_norm(mode: str) -> None:
    steps = replace(SAMPLED, noise_multiplier=0.0, mode=mode, steps=12)
    seen = observe(steps, 1000, KEY)
    assert np.all(np.isclose(seen.sums, 0.0, atol=1e-4) | np.isclose(seen.sums, 1.0, atol=1e-4))
    assert not seen.sums[:, ~seen.included].any()
    assert not seen.noise.any()
    # 12 steps of 1000 canaries, half of them in, each drawn with probability 0.1: 600 expected, deviation 23.
    assert 500 < seen.sums.round().sum() < 700
    assert 420 < seen.included.sum() < 580


def test_noise_reaches_the_weights_in_every_step_and_direction() -> None:
    seen = observe(SAMPLED, 1000, KEY)
    for released in (seen.noise, seen.sums[:, ~seen.included]):
        deviations = released.std(axis=1) / SAMPLED.noise_multiplier
        assert deviations == pytest.approx(np.ones(SAMPLED.steps), abs=0.2)
        assert released.std() / SAMPLED.noise_multiplier == pytest.approx(1.0, abs=0.03)


@given(
    num_samples=st.integers(1, 60000), share=st.floats(0.0, 1.0), wanted=st.integers(1, 5000), steps=st.integers(1, 500)
)
def test_the_plan_has_the_sample_rate_and_room_for_the_canaries(
    num_samples: int, share: float, wanted: int, steps: int
) -> None:
    batch_size = max(1, round(share * num_samples))
    plan = AuditedSteps(num_samples, batch_size, steps, 1.0, 1.0, "hooks").plan(wanted, KEY)
    assert plan.batch_size * num_samples == batch_size * plan.num_samples
    assert plan.num_samples >= wanted
    assert plan.num_samples < wanted + num_samples
    assert plan.total_steps >= steps
