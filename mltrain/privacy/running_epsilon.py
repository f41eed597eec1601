"""Epsilon at many moments of one run, quick enough for every log point."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mltrain.privacy.accounting import Accountant

__all__ = ["RunningEpsilon"]

_MOST_POINTS = 2**20
_FINEST = 0.01  # error of epsilon that PRV adds to its estimate
# Another discretisation gives another upper bound, up to 1.2e-3 smaller than the accountant's (measured over random
# rates, noises, steps and deltas). This one is to be the larger.
_MARGIN = 2e-3


class RunningEpsilon:
    """Bounds epsilon after any number of steps up to a limit.

    PRV discretises the privacy loss of a step and composes it by Fourier transforms (Gopi, Lee and Wutschitz, 2021).
    Range and mesh that are fit for the most steps are fit for fewer: one discretisation, most of the work, serves all.

    Args:
        accountant: of the run.
        most_steps: the limit; beyond it, and where the discretisation would be too large, the accountant answers.
    """

    def __init__(self, accountant: Accountant, most_steps: int) -> None:
        self._accountant, self._most_steps = accountant, most_steps
        self._step: Any = None
        self._is_ready = accountant.kind != "prv" or accountant.noise_multiplier == 0

    def __call__(self, steps: int) -> float:
        """Return an upper bound of epsilon, next to that of the accountant or a little larger."""
        if not self._is_ready:
            self._is_ready = True
            self._step = self._discretized()
        if self._step is None or not 0 < steps <= self._most_steps:
            return self._accountant.epsilon_at_most(steps)
        return self._composed(steps) + _MARGIN

    def _discretized(self) -> Any:
        """Return the privacy loss of a step on its mesh, and its transform; None where that is too much."""
        from opacus.accountants import PRVAccountant
        from opacus.accountants.analysis.prv import (
            PoissonSubsampledGaussianPRV,
            TruncatedPrivacyRandomVariable,
            discretize,
        )
        from scipy.fft import rfft

        accountant = self._accountant
        loss = PoissonSubsampledGaussianPRV(accountant.sample_rate, accountant.noise_multiplier)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                domain = _quick(
                    PRVAccountant()._get_domain([loss], [self._most_steps], _FINEST, accountant.delta / 1000)
                )
                # Sums of so many points in float64 must not be off by more than delta.
                if domain.size > min(_MOST_POINTS, accountant.delta / np.finfo(np.float64).eps):
                    return None
                discrete = discretize(TruncatedPrivacyRandomVariable(loss, domain.t_min, domain.t_max), domain)
        except (ArithmeticError, RuntimeError, ValueError, IndexError, MemoryError):
            return None
        return discrete.domain, rfft(discrete.pmf)

    def _composed(self, steps: int) -> float:
        from opacus.accountants.analysis.prv.prvs import DiscretePRV
        from scipy.fft import irfft

        domain, transform = self._step
        with np.errstate(all="ignore"):
            masses = irfft(transform**steps)
            # Each convolution moves the middle by one place, an even number of them by half the mesh besides.
            masses = np.roll(masses, steps - 1 + (0 if steps % 2 else len(masses) // 2))
            composed = DiscretePRV(masses, domain.shift_right(domain.shifts * (steps - 1)))
            delta = self._accountant.delta
            _, _, upper = composed.compute_epsilon(delta, delta / 1000, _FINEST)
        return max(0.0, float(upper))


def _quick(domain: Any) -> Any:
    """Return a mesh that reaches a little further, with a number of points that is quick to transform."""
    from scipy.fft import next_fast_len

    for more in range(256):
        reach = domain.t_max + more * domain.dt
        wider = type(domain).create_aligned(-reach, reach, domain.dt)
        if next_fast_len(wider.size, real=True) == wider.size:
            return wider
    return domain
