"""What the guesses of an audit refute: closed forms, published figures, and mechanisms whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import binom, norm

from mltrain.privacy.audit_bounds import gaussian_bound, is_refuted, sampled_bound, standard_bound
from mltrain.privacy.trade_off import GaussianTradeOff


def brute_force_p_value(m: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The bound of Steinke et al. (2023), term by term."""
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    mass = [math.comb(guesses, k) * right**k * (1 - right) ** (guesses - k) for k in range(guesses + 1)]
    slope = max((sum(mass[correct - i : correct]) / i for i in range(1, correct + 1)), default=0.0)
    return sum(mass[correct:]) + 2 * m * delta * slope


@pytest.mark.parametrize(("guesses", "confidence"), [(1000, 0.95), (1000, 0.999), (250, 0.999)])
def test_of_right_guesses_alone_the_standard_bound_has_a_closed_form(guesses: int, confidence: float) -> None:
    # (e^eps / (1 + e^eps)) ^ guesses = 1 - confidence
    power = (1 - confidence) ** (-1 / guesses) - 1
    assert standard_bound(guesses, guesses, 0.0, confidence, 1000) == pytest.approx(-math.log(power), abs=2e-3)


@pytest.mark.parametrize(("correct", "delta"), [(60, 1e-5), (55, 1e-3), (50, 1e-4), (40, 0.0)])
def test_the_standard_bound_is_where_the_p_value_meets_the_confidence(correct: int, delta: float) -> None:
    bound = standard_bound(60, correct, delta, 0.99, 100)
    assert bound > 0
    assert brute_force_p_value(100, 60, correct, bound, delta) <= 0.01 + 1e-9
    assert brute_force_p_value(100, 60, correct, bound + 0.002, delta) > 0.01


def test_the_bounds_saturate_where_every_guess_is_right() -> None:
    assert standard_bound(400, 400, 5e-5, 0.95, 1000) == pytest.approx(4.75, abs=0.01)
    assert gaussian_bound(400, 400, 5e-5, 0.95, 1000) == pytest.approx(8.50, abs=0.01)


def largest_probability(mu: float, guesses: int, correct: int, m: int) -> float:
    """The most probable `correct` or more right guesses, by linear programming over all that their theorem allows.

    Mahloujifar et al. (2024): with p(i) the probability of i right guesses, the sum of j/m p(j) over j >= i is at most
    what the trade-off curve allows of the sum of (guesses - j)/m p(j) over j >= i - 1. The curve is given by tangents.
    """
    epsilons = np.linspace(-6 * mu - 3, 6 * mu + 3, 201)
    deltas = norm.cdf(mu / 2 - epsilons / mu) - np.exp(epsilons) * norm.cdf(-mu / 2 - epsilons / mu)
    counts = np.arange(guesses + 1)
    rows, limits = [], []
    for i in range(1, guesses + 1):
        right = np.where(counts >= i, counts, 0) / m
        wrong = np.where(counts >= i - 1, guesses - counts, 0) / m
        scale = np.exp(-np.maximum(epsilons, 0.0))
        rows.append(scale[:, None] * (right - np.exp(epsilons)[:, None] * wrong))
        limits.append(scale * deltas)
    found = linprog(
        -(counts >= correct).astype(float),
        A_ub=np.concatenate(rows),
        b_ub=np.concatenate(limits),
        A_eq=np.ones((1, guesses + 1)),
        b_eq=[1.0],
    )
    return float(-found.fun)


@pytest.mark.parametrize(
    ("mu", "guesses", "correct", "m"), [(1.0, 20, 20, 20), (0.5, 20, 16, 20), (1.0, 10, 9, 40), (2.0, 20, 19, 30)]
)
def test_a_count_is_refuted_where_no_distribution_that_the_curve_allows_reaches_it(
    mu: float, guesses: int, correct: int, m: int
) -> None:
    largest = largest_probability(mu, guesses, correct, m)
    assert is_refuted(GaussianTradeOff(mu), guesses, correct, 1 - 1.005 * largest, m)
    assert not is_refuted(GaussianTradeOff(mu), guesses, correct, 1 - 0.99 * largest, m)


def test_random_guesses_refute_nothing() -> None:
    assert standard_bound(1000, 500, 1e-5, 0.95, 1000) == 0.0
    assert gaussian_bound(1000, 500, 1e-5, 0.95, 1000) == 0.0
    assert sampled_bound(250, 125, 1e-5, 0.95, 1000, sample_rate=0.1, steps=30) == 0.0
    assert gaussian_bound(250, 0, 1e-5, 0.95, 1000) == 0.0


def test_the_bounds_grow_with_the_right_guesses_and_shrink_with_the_confidence() -> None:
    for bound in (
        standard_bound,
        gaussian_bound,
        lambda *given: sampled_bound(*given, sample_rate=0.1, steps=30),
    ):
        found = [bound(250, correct, 1e-5, 0.99, 1000) for correct in (125, 160, 200, 220, 250)]
        assert found == sorted(found)
        assert found[1] < found[2] < found[4]
        assert bound(250, 220, 1e-5, 0.9999, 1000) < found[3]


def test_the_f_dp_bound_is_the_tighter_one_on_gaussian_noise() -> None:
    assert gaussian_bound(250, 240, 1e-5, 0.999, 1000) > standard_bound(250, 240, 1e-5, 0.999, 1000) + 0.5


@settings(max_examples=60, deadline=None)
@given(mu=st.floats(0.05, 4.0), share=st.floats(0.0, 1.0), m=st.integers(20, 400), confidence=st.floats(0.9, 0.9999))
@example(mu=1.0, share=1.0, m=100, confidence=0.95)
def test_independent_gaussian_releases_are_refuted_no_more_often_than_allowed(
    mu: float, share: float, m: int, confidence: float
) -> None:
    # Each canary shifts a release of its own by mu, so that the best guess of each is right with Phi(mu / 2). Any count
    # that comes at least as often as 1 - confidence must not refute what is true.
    right = float(norm.cdf(mu / 2))
    most = int(binom.isf(1 - confidence, m, right))
    correct = min(m, math.floor(share * most))
    assert binom.sf(correct - 1, m, right) > 1 - confidence
    assert not is_refuted(GaussianTradeOff(mu), m, correct, confidence, m)


def test_far_too_many_right_guesses_refute_a_gaussian_release() -> None:
    assert is_refuted(GaussianTradeOff(1.0), 250, 250, 0.999, 1000)
    assert not is_refuted(GaussianTradeOff(4.0), 250, 250, 0.999, 1000)


@pytest.mark.parametrize("wrong", [(10, 11, 0.95, 20), (30, 10, 0.95, 20), (10, -1, 0.95, 20), (10, 5, 1.0, 20)])
def test_impossible_counts_are_refused(wrong: tuple[int, int, float, int]) -> None:
    guesses, correct, confidence, m = wrong
    with pytest.raises(ValueError, match="not an audit"):
        standard_bound(guesses, correct, 1e-5, confidence, m)
    with pytest.raises(ValueError, match="not an audit"):
        gaussian_bound(guesses, correct, 1e-5, confidence, m)
