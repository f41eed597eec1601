"""What steps of private training cost, how many a budget pays for, and the noise that makes them cost it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.privacy.calibration_cache import keep_noise, known_noise
from mltrain.privacy.crossing import Point, cross
from mltrain.privacy.epsilon import KINDS, epsilon_after

__all__ = ["Accountant", "calibrate_noise", "check_delta", "default_delta"]

_COUNTS_AN_OCTAVE = 16
_GROWTH = 1.5
_NOISE_STEP = math.log(1.25)
_NOISE_TOLERANCE = 1e-4
_MOST_NOISE = 1e6


def default_delta(num_samples: int) -> float:
    """Return N to the power of -1.1, which is less than 1/N."""
    return float(num_samples**-1.1)


def check_delta(delta: float, num_samples: int) -> None:
    """Raise ConfigError for a delta with which whole examples might be given away: 1/N or more."""
    if delta <= 0:
        raise ConfigError(f"is {delta:g}", where="training.dp.target_delta", fix="Use a value above 0 and below 1/N.")
    if delta * num_samples >= 1:
        raise ConfigError(
            f"is {delta:.3g}, and must be less than 1/N: {1 / num_samples:.3g} for N = {num_samples} training examples",
            where="training.dp.target_delta",
            fix="Leave it out (N to the power of -1.1), or use a smaller one.",
        )


@dataclass(frozen=True)
class Accountant:
    """Says what steps of Poisson sampling and Gaussian noise cost. Every epsilon is an upper bound.

    Attributes:
        sample_rate: probability of each example to be in a step (q), 0 < q <= 1.
        noise_multiplier: standard deviation of the noise, over the clipping norm (sigma); 0: no privacy.
        delta: probability that epsilon does not hold with, 0 < delta < 1.
        kind: "prv", or "rdp": quicker and larger.
    """

    sample_rate: float
    noise_multiplier: float
    delta: float
    kind: str = "prv"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"no accountant {self.kind!r}", where="training.dp.accountant", fix=f"Known: {', '.join(KINDS)}."
            )
        if not 0 < self.sample_rate <= 1:
            raise ValueError(f"a sample rate of {self.sample_rate}")
        if not 0 <= self.noise_multiplier < math.inf:
            raise ValueError(f"a noise multiplier of {self.noise_multiplier}")
        if not 0 < self.delta < 1:
            raise ValueError(f"a delta of {self.delta}")

    def epsilon(self, steps: int) -> float:
        """Return epsilon after a number of steps, computed once for each; infinity without noise.

        Raises:
            ConfigError: PRV cannot compute it for such extreme values.
        """
        if steps < 0:
            raise ValueError(f"{steps} steps")
        return epsilon_after(
            steps,
            sample_rate=self.sample_rate,
            noise_multiplier=self.noise_multiplier,
            delta=self.delta,
            kind=self.kind,
        )

    def epsilon_at_most(self, steps: int) -> float:
        """Return epsilon after a number of steps or up to 1/16 more: few values, which are quick to have again."""
        grain = 2 ** max(0, steps.bit_length() - _COUNTS_AN_OCTAVE.bit_length())
        return self.epsilon(math.ceil(steps / grain) * grain)

    def most_steps(self, target_epsilon: float, limit: int) -> int:
        """Return the largest number of steps up to `limit` after which epsilon is at most the target."""
        if limit < 1:
            return 0
        within, steps = Point(0, -math.inf), 1
        if self.kind == "prv":  # RDP pays for fewer, and tells so at once
            steps = max(1, replace(self, kind="rdp").most_steps(target_epsilon, limit))
        while True:
            reached = Point(steps, self._excess(target_epsilon, steps))
            if reached.value > 0:
                return int(cross(partial(self._excess, target_epsilon), within, reached, resolution=None))
            if steps == limit:
                return limit
            within, steps = reached, min(limit, math.ceil(steps * _GROWTH))

    def _excess(self, target_epsilon: float, steps: float) -> float:
        return _log_ratio(self.epsilon(int(steps)), target_epsilon)


def calibrate_noise(*, target_epsilon: float, delta: float, sample_rate: float, steps: int, kind: str = "prv") -> float:
    """Return the least noise multiplier with which epsilon after `steps` steps is at most the target.

    It is at most 1e-4 (relative) larger than one that passes the target, and was itself evaluated. It is kept in the
    user's cache folder.

    Args:
        target_epsilon: the budget, above 0.
        delta: probability that epsilon does not hold with.
        sample_rate: probability of each example to be in a step (q).
        steps: steps of the whole run (T), at least 1.
        kind: the accountant, "prv" or "rdp".

    Raises:
        ConfigError: no noise meets the target, or the accountant cannot compute so large a one.
    """
    if not 0 < target_epsilon < math.inf:
        raise ConfigError(f"is {target_epsilon:g}", where="training.dp.target_epsilon", fix="Use a value above 0.")
    if steps < 1:
        raise ValueError(f"{steps} steps")
    request = {
        "target_epsilon": float(target_epsilon),
        "delta": float(delta),
        "sample_rate": float(sample_rate),
        "steps": steps,
        "kind": kind,
    }
    accountant = Accountant(sample_rate, 1.0, delta, kind)
    noise = known_noise(request)
    if noise is not None:
        log.debug("Noise multiplier %.6g, from an earlier calibration.", noise)
        return noise
    noise = _least_noise(accountant, target_epsilon, steps)
    log.info(
        "Noise multiplier %.6g: epsilon %.4f of %g after %d steps, by %s.",
        noise, replace(accountant, noise_multiplier=noise).epsilon(steps), target_epsilon, steps, kind,
    )  # fmt: skip
    keep_noise(request, noise)
    return noise


def _least_noise(accountant: Accountant, target_epsilon: float, steps: int) -> float:
    def excess(log_noise: float) -> float:
        epsilon = replace(accountant, noise_multiplier=math.exp(log_noise)).epsilon(steps)
        return _log_ratio(epsilon, target_epsilon)

    start = 0.0
    if accountant.kind == "prv":
        try:  # RDP needs a little more, and tells so quickly
            start = math.log(_least_noise(replace(accountant, kind="rdp"), target_epsilon, steps))
        except ConfigError:
            start = math.log(_MOST_NOISE) / 2
    point = Point(start, excess(start))
    stride = _NOISE_STEP
    while True:
        is_within = point.value <= 0
        at = point.at - stride if is_within else point.at + stride
        if at > math.log(_MOST_NOISE):
            raise _out_of_reach(accountant, target_epsilon, steps)
        other = Point(at, excess(at))
        if (other.value <= 0) != is_within:
            break
        point, stride = other, 2 * stride
    within, beyond = (point, other) if is_within else (other, point)
    return math.exp(cross(excess, within, beyond, resolution=_NOISE_TOLERANCE))


def _out_of_reach(accountant: Accountant, target_epsilon: float, steps: int) -> ConfigError:
    least = replace(accountant, noise_multiplier=_MOST_NOISE).epsilon(steps)
    other = " or use training.dp.accountant=prv, which is tighter," if accountant.kind == "rdp" else ""
    return ConfigError(
        f"is {target_epsilon:g}, but {accountant.kind} finds no epsilon below {least:.3g} at delta "
        f"{accountant.delta:.3g}, however much noise there is",
        where="training.dp.target_epsilon",
        fix=f"Raise it,{other} or use a larger delta." if other else "Raise it, or use a larger delta.",
    )


def _log_ratio(epsilon: float, target_epsilon: float) -> float:
    """Return log(epsilon / target), which is nearly a straight line over the logarithm of noise."""
    return -math.inf if epsilon == 0 else math.log(epsilon / target_epsilon)
