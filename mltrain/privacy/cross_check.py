"""Epsilon by Google's dp-accounting, which shares no code with the accountants of `epsilon`: to check them by."""

from __future__ import annotations

import math
from importlib.metadata import PackageNotFoundError, version

__all__ = ["pld_epsilon", "pld_version"]

_FINE = 1e-4
# The grid adds about steps * resolution^2 to epsilon (measured): this much at most.
_MOST_ADDED = 5e-4


def pld_version() -> str | None:
    """Return the version of dp-accounting; None: it is not installed."""
    try:
        return version("dp-accounting")
    except PackageNotFoundError:
        return None


def pld_epsilon(
    *, sample_rate: float, noise_multiplier: float, delta: float, steps: int, resolution: float | None = None
) -> float | None:
    """Return epsilon by privacy loss distributions (Doroshenko et al., 2022); None without dp-accounting.

    Neighbouring data sets differ by one example that is added or removed.

    Args:
        sample_rate: probability of each example to be in a step (q).
        noise_multiplier: standard deviation of the noise, over the clipping norm (sigma).
        delta: probability that epsilon does not hold with.
        steps: steps taken.
        resolution: grid of the privacy loss. A finer one gives a value nearer to the truth, from above, and takes more
            time. Default: 1e-4, or finer where there are many steps.
    """
    try:
        import dp_accounting
        from dp_accounting.pld import PLDAccountant
    except ImportError:
        return None
    if steps == 0:
        return 0.0
    event = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sample_rate < 1:
        event = dp_accounting.PoissonSampledDpEvent(sample_rate, event)
    accountant = PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
        value_discretization_interval=resolution or min(_FINE, math.sqrt(_MOST_ADDED / steps)),
    )
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    return float(accountant.get_epsilon(delta))
