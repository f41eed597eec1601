"""How well any test can tell two neighbouring data sets apart, by what a mechanism releases: its trade-off curve.

A curve gives, for each rate of false alarms, the largest power that a test between neighbours may have ("f-DP": Dong,
Roth and Su, 2019, who write f for 1 - power).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

__all__ = ["GaussianTradeOff", "SampledTradeOff", "TradeOff", "private_steps"]

_POINTS = 2**14
_THIN = 8
# Tails of the privacy loss of less than this probability count as if they gave all away.
_LOG_TAIL = math.log(1e-12)


class TradeOff(Protocol):
    """A trade-off curve, for adding and for removing an example alike."""

    def least_alarms(self, power: float) -> float:
        """Return the least rate of false alarms that a test of this power must have."""
        ...

    def epsilon(self, delta: float) -> float:
        """Return the least epsilon for which the mechanism is (epsilon, delta)-differentially private."""
        ...


@dataclass(frozen=True)
class GaussianTradeOff:
    """The curve of one Gaussian release.

    Args:
        mu: distance that an example moves the mean, in standard deviations.
    """

    mu: float

    def least_alarms(self, power: float) -> float:
        """See `TradeOff`."""
        return float(ndtr(ndtri(power) - self.mu))

    def epsilon(self, delta: float) -> float:
        """Invert delta(epsilon) of the Gaussian mechanism (Balle and Wang, 2018)."""
        if self.mu <= 0.0:
            return 0.0

        def excess(epsilon: float) -> float:
            shift = epsilon / self.mu
            far = math.exp(epsilon + float(log_ndtr(-shift - self.mu / 2)))
            return float(ndtr(self.mu / 2 - shift)) - far - delta

        if excess(0.0) <= 0.0:
            return 0.0
        return float(brentq(excess, 0.0, self.mu * (self.mu / 2 - float(ndtri(delta))) + 1.0))


class SampledTradeOff:
    """The curve of Gaussian steps on Poisson samples, from the distribution of the privacy loss.

    The loss of one step is put on a grid so that its curve lies above the true one, barely (Doroshenko et al., 2022,
    "Connect the dots"), and is then convolved with itself.

    Args:
        sample_rate: probability that a step sees an example, below 1.
        noise_multiplier: standard deviation of the noise over the clipping norm.
        steps: number of steps.
    """

    def __init__(self, sample_rate: float, noise_multiplier: float, steps: int) -> None:
        self._rate, self._noise = sample_rate, noise_multiplier
        limit = self._reach(steps)
        self._losses = np.linspace(-limit, limit, _POINTS + 1)
        inside, outside, lost = self._one_step()
        self._set_deltas(_compose(inside, steps), _compose(outside, steps), 1.0 - (1.0 - lost) ** steps)

    def least_alarms(self, power: float) -> float:
        """See `TradeOff`. The curve lies below each line power = delta + e^epsilon * alarms; some are enough."""
        deltas, factors = self._lines
        return max(0.0, float(np.max((power - deltas) * factors)))

    def epsilon(self, delta: float) -> float:
        """See `TradeOff`."""
        if self._deltas[-1] > delta:
            return math.inf
        if self._deltas[0] <= delta:
            return 0.0
        first = int(np.argmax(self._deltas <= delta))
        ends = slice(first - 1, first + 1)
        return max(0.0, float(np.interp(-delta, -self._deltas[ends], self._losses[ends])))

    def _loss(self, place: Any) -> Any:
        """Return the log of the densities' ratio where the release is `place` clipping norms."""
        shifted = (2.0 * place - 1.0) / (2.0 * self._noise**2)
        return np.logaddexp(math.log1p(-self._rate), math.log(self._rate) + shifted)

    def _reach(self, steps: int) -> float:
        """Return a loss that all steps together hardly ever pass, in either direction (Chernoff)."""
        bound = 1.0 + self._noise * math.sqrt(2.0 * (math.log(steps) - _LOG_TAIL))
        places = np.linspace(1.0 - bound, bound, 1001)
        losses = self._loss(places)
        density = -0.5 * (places / self._noise) ** 2
        rates = np.geomspace(0.05, 500.0, 40)[:, None]
        reach = 0.0
        for log_density, towards in ((density + losses, losses), (density, -losses)):
            moments = logsumexp(log_density + rates * towards, axis=1) - logsumexp(log_density)
            reach = max(reach, float(np.min((steps * moments - _LOG_TAIL) / rates[:, 0])))
        return 1.05 * reach

    def _one_step(self) -> tuple[Any, Any, float]:
        """Return one step's probability of each loss, with and without the example, and that of one beyond the grid."""
        losses = self._losses
        with np.errstate(divide="ignore"):
            ratio = np.log(np.maximum(np.expm1(losses) + self._rate, 0.0) / self._rate)
        edges = self._noise**2 * ratio + 0.5
        # Upper tails: exact where the losses are large.
        outside = -np.diff(ndtr(-edges / self._noise))
        shifted = -np.diff(ndtr(-(edges - 1.0) / self._noise))
        inside = (1.0 - self._rate) * outside + self._rate * shifted
        # Each cell's mass goes to its two ends so that both probabilities, with and without the example, stay.
        width = losses[1] - losses[0]
        upper = np.clip((inside - outside * np.exp(losses[:-1])) / -math.expm1(-width), 0.0, inside)
        masses = inside - upper
        masses[1:] += upper[:-1]
        return masses, masses * np.exp(-losses[:-1]), float(max(0.0, 1.0 - masses.sum()))

    def _set_deltas(self, inside: Any, outside: Any, lost: float) -> None:
        """Set delta(epsilon) at each loss of the grid: the larger of adding and removing."""
        self._losses = losses = self._losses[:-1]
        # Each where it is the larger one: what the transform rounds would grow in the other.
        inside, outside = (
            np.where(losses < 0.0, outside * np.exp(np.minimum(losses, 0.0)), inside),
            np.where(losses < 0.0, outside, inside * np.exp(-np.maximum(losses, 0.0))),
        )
        factors = np.exp(-losses)
        removed = _tail(inside) - np.exp(losses) * _tail(outside)
        # Swapped, a loss is its negative: the sums run over the losses below -epsilon.
        added = np.cumsum(outside) - factors * np.cumsum(inside)
        added = np.concatenate([added[-1:], added[:0:-1]])
        self._deltas = np.clip(np.maximum(removed, added) + lost, 0.0, 1.0)
        self._lines = self._deltas[::_THIN].copy(), factors[::_THIN].copy()


def _compose(masses: Any, steps: int) -> Any:
    """Return the probabilities of the sum of `steps` independent losses; the grid has its zero in the middle."""
    transformed = np.fft.rfft(np.fft.ifftshift(masses)) ** steps
    composed = np.fft.fftshift(np.fft.irfft(transformed, len(masses)))
    return np.where(composed < 1e-15, 0.0, composed)


def _tail(masses: Any) -> Any:
    return np.cumsum(masses[::-1])[::-1]


def private_steps(sample_rate: float, noise_multiplier: float, steps: int) -> TradeOff:
    """Return the curve of `steps` private steps that each see an example with probability `sample_rate`."""
    if sample_rate == 1.0:
        return GaussianTradeOff(math.sqrt(steps) / noise_multiplier)
    return SampledTradeOff(sample_rate, noise_multiplier, steps)
