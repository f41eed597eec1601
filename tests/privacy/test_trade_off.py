"""Trade-off curves: against Google's accountant, closed forms, and each other."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from mltrain.privacy.trade_off import GaussianTradeOff, SampledTradeOff, private_steps

DELTAS = (1e-2, 1e-5, 1e-7)


@pytest.mark.parametrize(
    ("rate", "noise", "steps"),
    [(0.01024, 1.1, 977), (0.5, 2.0, 10), (0.1, 0.8, 1), (0.3, 0.4, 2)],
)
def test_epsilon_is_that_of_googles_accountant(rate: float, noise: float, steps: int) -> None:
    pld = pytest.importorskip("dp_accounting.pld.privacy_loss_distribution")
    reference = pld.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=1e-3)
    composed = reference.self_compose(steps)
    curve = SampledTradeOff(rate, noise, steps)
    for delta in DELTAS:
        assert curve.epsilon(delta) == pytest.approx(composed.get_epsilon_for_delta(delta), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("mu", [0.05, 0.7, 3.0])
@pytest.mark.parametrize("delta", DELTAS)
def test_epsilon_of_a_gaussian_release_solves_its_equation(mu: float, delta: float) -> None:
    epsilon = GaussianTradeOff(mu).epsilon(delta)
    reached = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert epsilon == 0 or reached == pytest.approx(delta, rel=1e-6)
    assert epsilon > 0 or reached <= delta


def test_at_a_sample_rate_near_1_the_curve_is_the_gaussian_one() -> None:
    sampled, whole = SampledTradeOff(1 - 1e-9, 1.3, 2), GaussianTradeOff(math.sqrt(2) / 1.3)
    for power in (1e-4, 0.01, 0.3, 0.9, 0.999):
        assert sampled.least_alarms(power) == pytest.approx(whole.least_alarms(power), rel=2e-3)
    for delta in DELTAS:
        assert sampled.epsilon(delta) == pytest.approx(whole.epsilon(delta), abs=2e-3)
    assert isinstance(private_steps(1.0, 1.3, 2), GaussianTradeOff)
    assert private_steps(1.0, 1.3, 2).epsilon(1e-5) == whole.epsilon(1e-5)


@pytest.mark.parametrize("threshold", [0.7, 1.0, 2.5])
def test_no_test_of_one_step_lies_above_the_curve_and_one_lies_on_it(threshold: float) -> None:
    rate, noise = 0.2, 0.9
    curve = SampledTradeOff(rate, noise, 1)
    out = norm.sf(threshold / noise)
    into = (1 - rate) * out + rate * norm.sf((threshold - 1) / noise)
    for power, alarms in ((into, out), (1 - out, 1 - into)):
        assert curve.least_alarms(power) <= alarms + 1e-12
    # The curve is the larger of both directions: it touches the better of the two tests.
    gaps = [alarms - curve.least_alarms(power) for power, alarms in ((into, out), (1 - out, 1 - into))]
    assert min(gaps) < 2e-3


def test_nothing_beats_guessing_where_nothing_is_released() -> None:
    for curve in (GaussianTradeOff(0.0), SampledTradeOff(0.01, 1000.0, 1), SampledTradeOff(0.001, 1e5, 1)):
        assert curve.epsilon(1e-5) == pytest.approx(0.0, abs=1e-3)
        assert curve.least_alarms(0.4) == pytest.approx(0.4, abs=1e-3)
