"""The largest epsilon that the guesses of one audited run refute."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from mltrain.privacy.trade_off import GaussianTradeOff, TradeOff, private_steps

__all__ = ["gaussian_bound", "is_refuted", "sampled_bound", "standard_bound"]

_PRECISION = 1e-3


def standard_bound(guesses: int, correct: int, delta: float, confidence: float, m: int) -> float:
    """Return the largest epsilon for which (epsilon, delta)-privacy is refuted, or 0.

    Steinke, Nasr and Jagielski (2023), "Privacy auditing with one (1) training run": so many correct guesses
    are hardly more probable than from as many coins that are right with probability e^epsilon / (1 + e^epsilon).

    Args:
        guesses: how many canaries were guessed to be in or out; the number was fixed beforehand.
        correct: how many of the guesses were right.
        delta: of the refuted pairs.
        confidence: probability that what holds is not refuted.
        m: number of canaries, each in with probability 1/2.
    """
    _check(guesses, correct, confidence, m)

    def is_improbable(epsilon: float) -> bool:
        right = 1.0 / (1.0 + math.exp(-epsilon))
        tail = float(binom.sf(correct - 1, guesses, right))
        below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
        slope = float(np.max(below / np.arange(1, correct + 1), initial=0.0))
        return tail + 2.0 * m * delta * slope < 1.0 - confidence

    return _largest(is_improbable)


def gaussian_bound(guesses: int, correct: int, delta: float, confidence: float, m: int) -> float:
    """Return the epsilon, at delta, of the noisiest Gaussian release that is refuted, or 0.

    Mahloujifar, Melis and Chaudhuri (2024), "Auditing f-differential privacy in one run". Arguments as for
    `standard_bound`.
    """
    _check(guesses, correct, confidence, m)
    mu = _largest(lambda mu: is_refuted(GaussianTradeOff(mu), guesses, correct, confidence, m))
    return GaussianTradeOff(mu).epsilon(delta)


def sampled_bound(
    guesses: int, correct: int, delta: float, confidence: float, m: int, *, sample_rate: float, steps: int
) -> float:
    """Return the epsilon, at delta, of the noisiest private steps on Poisson samples that are refuted, or 0.

    The same method as `gaussian_bound`, whose other arguments it takes.

    Args:
        sample_rate, steps: of the run that was audited.
    """
    _check(guesses, correct, confidence, m)

    def curve(inverse_noise: float) -> TradeOff:
        return private_steps(sample_rate, 1.0 / inverse_noise, steps)

    inverse_noise = _largest(lambda given: is_refuted(curve(given), guesses, correct, confidence, m))
    return curve(inverse_noise).epsilon(delta) if inverse_noise > 0.0 else 0.0


def is_refuted(trade_off: TradeOff, guesses: int, correct: int, confidence: float, m: int) -> bool:
    """Return whether so many correct guesses have a probability below 1 - confidence under a trade-off curve.

    The recursion of Mahloujifar, Melis and Chaudhuri (2024). Suppose that the probability is 1 - confidence. With p(i)
    the probability of i correct guesses, right(i) the sum of j/m * p(j) and wrong(i) that of (guesses - j)/m * p(j)
    over all j >= i, the curve bounds wrong(i - 1) from below by right(i): to flip one canary's coin makes one more
    guess wrong and cannot go unnoticed too often. The two sums at 0 must not exceed guesses / m.
    """
    _check(guesses, correct, confidence, m)
    if not correct:
        return False
    tail = 1.0 - confidence
    right, wrong = tail * correct / m, tail * (guesses - correct) / m
    for i in range(correct - 1, -1, -1):
        least = max(wrong, trade_off.least_alarms(right))
        right += i / (guesses - i) * (least - wrong)
        wrong = least
        if right + wrong > guesses / m:
            return True
    return False


def _check(guesses: int, correct: int, confidence: float, m: int) -> None:
    if not 0 <= correct <= guesses <= m or not 0.0 < confidence < 1.0:
        raise ValueError(f"not an audit: {correct} of {guesses} guesses, {m} canaries, confidence {confidence}")


def _largest(holds: Callable[[float], bool]) -> float:
    """Return the largest value, to 0.001, up to which a condition holds; 0 where it holds nowhere."""
    high = 0.5
    while holds(high):
        high *= 1.5
    low = high / 1.5 if high > 0.5 else 0.0
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
