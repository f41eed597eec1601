"""Epsilon of Poisson-subsampled Gaussian steps, by Opacus's accountants. Every value is an upper bound.

Neighbouring data sets differ by one example that is added or removed. The Gaussian (GDP) approximation is not offered:
it lies below the true epsilon.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, one_line

__all__ = ["KINDS", "epsilon_after"]

KINDS = ("prv", "rdp")

_LEAST_NOISE = 1e-3  # below it epsilon exceeds 10,000 a step, and the accountants may not come to an end
_FINEST = 0.01  # error of epsilon that PRV adds to its estimate
_COARSEST = 0.1
# Points of the discretised privacy loss: 2 to 4 seconds and less than 1 GB.
_MOST_POINTS = 2**22
_FEWEST_POINTS = 2**10


class _TooManyPointsError(Exception):
    """The privacy loss would take `size` points."""

    def __init__(self, size: int) -> None:
        super().__init__(f"its privacy loss takes {size:,} points")
        self.size = size


@functools.lru_cache(maxsize=4096)
def epsilon_after(steps: int, *, sample_rate: float, noise_multiplier: float, delta: float, kind: str) -> float:
    """Return an upper bound of epsilon after a number of steps.

    PRV numerically composes privacy loss random variables (Gopi, Lee and Wutschitz, 2021); RDP composes Renyi
    divergences (Mironov, Talwar and Zhang, 2019).

    Args:
        steps: steps taken.
        sample_rate: probability of each example to be in a step (q), 0 < q <= 1.
        noise_multiplier: standard deviation of the noise, over the clipping norm (sigma); below 0.001 it gives
            infinity.
        delta: probability that epsilon does not hold with.
        kind: "prv" or "rdp".

    Raises:
        ConfigError: PRV cannot compute it for such extreme values.
    """
    if steps == 0:
        return 0.0
    if noise_multiplier < _LEAST_NOISE:
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus tells where other orders would give a smaller bound
        if kind == "rdp":
            return _rdp_epsilon(steps, sample_rate, noise_multiplier, delta)
        try:
            epsilon = _prv_epsilon(steps, sample_rate, noise_multiplier, delta)
        except (ArithmeticError, RuntimeError, ValueError, IndexError, MemoryError, _TooManyPointsError) as error:
            reason = one_line(error) or type(error).__name__
        else:
            if math.isfinite(epsilon):
                return epsilon
            reason = f"the result is {epsilon}"
    raise ConfigError(
        f"prv cannot compute epsilon for noise_multiplier {noise_multiplier:.6g}, sample rate {sample_rate:.6g}, "
        f"{steps} steps and delta {delta:.3g} ({reason.rstrip('.')})",
        where="training.dp.accountant",
        fix="Use training.dp.accountant=rdp, or other values.",
    )


def _rdp_epsilon(steps: int, sample_rate: float, noise_multiplier: float, delta: float) -> float:
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import get_privacy_spent

    orders = RDPAccountant.DEFAULT_ALPHAS
    with np.errstate(all="ignore"):
        divergences = steps * _rdp_of_a_step(sample_rate, noise_multiplier)
        epsilon, _ = get_privacy_spent(orders=orders, rdp=divergences, delta=delta)
    return math.inf if math.isnan(epsilon) else max(0.0, float(epsilon))


@functools.lru_cache(maxsize=256)
def _rdp_of_a_step(sample_rate: float, noise_multiplier: float) -> NDArray[np.float64]:
    """Return the Renyi divergence of one step at each order; that of T steps is T times as large."""
    from opacus.accountants import RDPAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    orders = RDPAccountant.DEFAULT_ALPHAS
    divergences = compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=orders)
    return np.asarray(divergences, dtype=np.float64)


def _prv_epsilon(steps: int, sample_rate: float, noise_multiplier: float, delta: float) -> float:
    # Sums of so many points in float64 must not be off by more than delta.
    limit = min(_MOST_POINTS, delta / float(np.finfo(np.float64).eps))
    if limit < _FEWEST_POINTS:
        raise ValueError("delta is too small for float64")
    accountant = _limited_accountant(limit)
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    error = _FINEST
    while True:
        # log(1 - q) is minus infinity at q = 1, as it should be.
        with np.errstate(over="raise", invalid="raise", divide="ignore", under="ignore"):
            try:
                return max(0.0, float(accountant.get_epsilon(delta, eps_error=error)))
            except _TooManyPointsError as found:
                # The points are inversely proportional to the error, which the result includes.
                error *= 1.01 * found.size / limit
                if error > _COARSEST:
                    raise


@functools.cache
def _limited_accountant_class() -> Any:
    from opacus.accountants import PRVAccountant

    class LimitedPRVAccountant(PRVAccountant):
        """Refuses a discretisation that takes too much memory or precision, before it is made."""

        most_points: float = _MOST_POINTS

        def _get_domain(self, *arguments: Any, **settings: Any) -> Any:
            domain = super()._get_domain(*arguments, **settings)
            if domain.size > self.most_points:
                raise _TooManyPointsError(domain.size)
            return domain

    return LimitedPRVAccountant


def _limited_accountant(most_points: float) -> Any:
    accountant = _limited_accountant_class()()
    accountant.most_points = most_points
    return accountant
