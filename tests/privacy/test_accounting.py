"""Epsilon, the steps that a budget pays for and the noise that it takes, against Google's dp-accounting."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from mltrain.core.errors import ConfigError
from mltrain.privacy.accounting import Accountant, check_delta, default_delta
from mltrain.privacy.cross_check import pld_epsilon, pld_version

# Of N = 50000 and batches of 512, ten epochs.
REFERENCE = Accountant(512 / 50_000, 1.1, 1e-5)
STEPS = 977

POINTS = [
    (512 / 50_000, 1.1, 977, 1e-5), (512 / 50_000, 1.1, 98, 1e-5), (512 / 50_000, 1.1, 4885, 1e-5),
    (512 / 50_000, 0.7, 977, 1e-5), (512 / 50_000, 2.0, 977, 1e-5), (512 / 50_000, 1.1, 977, 1e-9),
    (0.001, 0.8, 1, 1e-6), (0.001, 0.8, 100, 1e-6), (0.001, 0.8, 3000, 1e-6), (0.001, 1.5, 3000, 1e-6),
    (0.02, 1.0, 50, 1e-4), (0.02, 1.0, 500, 1e-4), (0.02, 3.0, 5000, 1e-4), (0.05, 1.7, 600, 1e-4),
    (0.05, 0.95, 100, 1e-4), (0.1, 1.5, 10, 1e-5), (0.1, 1.5, 300, 1e-5), (0.1, 5.0, 1000, 1e-5),
    (0.1, 20.0, 100, 1e-5), (0.3, 3.0, 50, 1e-3), (0.5, 4.0, 20, 1e-5), (0.9, 5.0, 30, 1e-5), (1.0, 10.0, 100, 1e-5),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sample_rate", "noise", "steps", "delta"),
    [*POINTS[:6], *(pytest.param(*point, marks=pytest.mark.slow) for point in POINTS[6:])],
)
def test_prv_is_just_above_dp_accounting(sample_rate: float, noise: float, steps: int, delta: float) -> None:
    assert pld_version() is not None
    reference = pld_epsilon(sample_rate=sample_rate, noise_multiplier=noise, delta=delta, steps=steps, resolution=3e-4)
    assert reference is not None
    assert 0 <= Accountant(sample_rate, noise, delta).epsilon(steps) - reference <= 0.02


def test_figures_of_the_literature() -> None:
    assert REFERENCE.epsilon(STEPS) == pytest.approx(1.5473, abs=5e-5)
    assert Accountant(512 / 50_000, 1.1, 1e-5, "rdp").epsilon(STEPS) == pytest.approx(1.7355, abs=5e-5)
    fine = pld_epsilon(sample_rate=512 / 50_000, noise_multiplier=1.1, delta=1e-5, steps=STEPS)
    assert fine == pytest.approx(1.5372, abs=5e-5)


@pytest.mark.parametrize(("noise", "steps"), [(2.0, 10), (10.0, 1000), (100.0, 1)])
def test_the_whole_data_set_in_every_step_is_the_gaussian_mechanism(noise: float, steps: int) -> None:
    # Balle and Wang (2018), theorem 8: the exact curve of T releases, which are one of sensitivity sqrt(T).
    ratio, delta = math.sqrt(steps) / noise, 1e-5

    def excess(epsilon: float) -> float:
        above = norm.cdf(ratio / 2 - epsilon / ratio)
        return float(above - math.exp(epsilon) * norm.cdf(-ratio / 2 - epsilon / ratio) - delta)

    exact = brentq(excess, 0, 100)
    assert 0 <= Accountant(1.0, noise, delta).epsilon(steps) - exact <= 0.02
    assert Accountant(1.0, noise, delta, "rdp").epsilon(steps) >= exact


def test_no_step_costs_nothing_and_no_noise_everything() -> None:
    for kind in ("prv", "rdp"):
        assert Accountant(0.1, 1.0, 1e-5, kind).epsilon(0) == 0
        assert Accountant(0.1, 0.0, 1e-5, kind).epsilon(0) == 0
        assert Accountant(0.1, 0.0, 1e-5, kind).epsilon(1) == math.inf
        assert Accountant(0.1, 0.0, 1e-5, kind).most_steps(100.0, 10) == 0
        assert Accountant(0.1, 1.0, 0.9, kind).epsilon(1) >= 0


noises = st.floats(0.5, 5)
rates = st.floats(1e-4, 0.1)
deltas = st.floats(1e-9, 1e-3)


@settings(max_examples=10, deadline=None)
@given(rate=rates, noise=noises, delta=deltas, steps=st.integers(1, 5000), more=st.integers(1, 5000))
def test_more_steps_and_less_noise_cost_more(rate: float, noise: float, delta: float, steps: int, more: int) -> None:
    epsilon = Accountant(rate, noise, delta, "rdp").epsilon(steps)
    assert epsilon <= Accountant(rate, noise, delta, "rdp").epsilon(steps + more)
    assert epsilon <= Accountant(rate, noise * 0.8, delta, "rdp").epsilon(steps)
    assert epsilon <= Accountant(rate, noise, delta * 0.5, "rdp").epsilon(steps)
    assert Accountant(rate, noise, delta, "rdp").epsilon_at_most(steps) >= epsilon


@settings(max_examples=10, deadline=None)
@given(rate=rates, noise=noises, target=st.floats(0.01, 50), limit=st.integers(1, 100_000))
def test_most_steps_is_the_last_count_within_the_target(rate: float, noise: float, target: float, limit: int) -> None:
    accountant = Accountant(rate, noise, 1e-5, "rdp")
    most = accountant.most_steps(target, limit)
    assert 0 <= most <= limit
    assert accountant.epsilon(most) <= target
    assert most == limit or accountant.epsilon(most + 1) > target


@pytest.mark.parametrize("target", [0.2, 1.5473, 2.0])
def test_most_steps_by_prv(target: float) -> None:
    most = REFERENCE.most_steps(target, 100_000)
    assert REFERENCE.epsilon(most) <= target < REFERENCE.epsilon(most + 1)
    assert REFERENCE.most_steps(target, most - 1) == most - 1
    assert REFERENCE.most_steps(target, 0) == 0


def test_a_target_that_one_step_passes_allows_none() -> None:
    assert REFERENCE.most_steps(0.005, 100) == 0


def test_the_quick_bound_is_exact_first_and_takes_few_values_later() -> None:
    accountant = Accountant(0.01, 1.1, 1e-5, "rdp")
    assert all(accountant.epsilon_at_most(steps) == accountant.epsilon(steps) for steps in range(33))
    assert len({accountant.epsilon_at_most(steps) for steps in range(1025, 2049)}) == 16
    assert accountant.epsilon_at_most(1025) == accountant.epsilon(1088)
    assert accountant.epsilon_at_most(2048) == accountant.epsilon(2048)
    assert REFERENCE.epsilon_at_most(STEPS) >= REFERENCE.epsilon(STEPS)


def test_where_float64_is_too_coarse_the_error_that_is_added_grows() -> None:
    # 200,000 points at the usual error, and sums of more than 45,000 are off by more than this delta.
    epsilon = Accountant(512 / 50_000, 1.1, 1e-11).epsilon(STEPS)
    assert 0 <= epsilon - 2.8928 <= 0.06  # of dp-accounting
    assert epsilon < Accountant(512 / 50_000, 1.1, 1e-11, "rdp").epsilon(STEPS)


@pytest.mark.parametrize(
    ("noise", "steps", "delta"), [(0.1, 100, 1e-5), (1e-3, 1, 1e-5), (1.1, 10**8, 1e-5), (1, 1, 1e-14)]
)
def test_what_prv_cannot_compute_is_an_error_that_says_what_can(noise: float, steps: int, delta: float) -> None:
    with pytest.raises(ConfigError, match=f"prv cannot compute epsilon for noise_multiplier {noise:g}.*accountant=rdp"):
        Accountant(0.01, noise, delta).epsilon(steps)
    assert Accountant(0.01, noise, delta, "rdp").epsilon(steps) > 0


def test_the_gaussian_approximation_is_not_offered() -> None:
    with pytest.raises(ConfigError, match=r"no accountant 'gdp'. Known: prv, rdp"):
        Accountant(0.01, 1.0, 1e-5, "gdp")


def test_values_that_mean_nothing_are_refused() -> None:
    for values in ((0.0, 1.0, 1e-5), (1.1, 1.0, 1e-5), (0.1, -1.0, 1e-5), (0.1, math.nan, 1e-5), (0.1, 1.0, 0.0)):
        with pytest.raises(ValueError, match="a "):
            Accountant(*values)
    with pytest.raises(ValueError, match="-1 steps"):
        REFERENCE.epsilon(-1)


def test_delta() -> None:
    assert default_delta(50_000) == pytest.approx(6.779e-6, rel=1e-3)
    check_delta(default_delta(2), 2)
    for delta in (1e-3, 0.5, 0.0):
        with pytest.raises(ConfigError) as caught:
            check_delta(delta, 1000)
        assert caught.value.where == "training.dp.target_delta"
    check_delta(0.999e-3, 1000)
