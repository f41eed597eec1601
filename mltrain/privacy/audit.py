"""Attack the private step with canaries in one run, and compare what leaks with what is claimed.

Steinke, Nasr and Jagielski (2023), "Privacy auditing with one (1) training run": every canary is in the data with
probability 1/2, an attacker who sees the weights after each step guesses which are, and more correct guesses than a
claim allows refute it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mltrain.privacy.audit_bounds import sampled_bound, standard_bound
from mltrain.privacy.canaries import AuditedSteps, Observation, observe
from mltrain.privacy.noise import KEY_BYTES

__all__ = ["CONFIDENCE", "AuditResult", "audit"]

CONFIDENCE = 0.999
"""Least probability that steps which keep their claim pass."""

_LEAST_DEVIATION = 0.01


@dataclass(frozen=True)
class AuditResult:
    """What came of one attack.

    Attributes:
        claimed_epsilon, delta: the claim.
        standard_bound: largest epsilon that is refuted whatever the mechanism is.
        f_dp_bound: largest epsilon that is refuted for Gaussian steps of this sample rate and number.
        reachable: the larger of both bounds, had every guess been right. A claim above it cannot be refuted.
        guesses, correct: how many canaries were guessed to be in or out, and how many of the guesses were right.
        canaries: how many there were.
        sample_rate, noise_multiplier, max_grad_norm, steps, mode: of the steps.
        confidence: least probability that steps which keep their claim pass.
    """

    claimed_epsilon: float
    delta: float
    standard_bound: float
    f_dp_bound: float
    reachable: float
    guesses: int
    correct: int
    canaries: int
    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    steps: int
    mode: str
    confidence: float

    @property
    def lower_bound(self) -> float:
        """The larger of the two bounds."""
        return max(self.standard_bound, self.f_dp_bound)

    @property
    def passed(self) -> bool:
        """Whether the claim stands."""
        return self.lower_bound <= self.claimed_epsilon

    @property
    def is_blind(self) -> bool:
        """Whether the claim would stand even if every guess were right."""
        return self.reachable <= self.claimed_epsilon

    @property
    def verdict(self) -> str:
        """One line for people."""
        found = f"{self.correct} of {self.guesses} guesses right; epsilon is at least {self.lower_bound:.2f}"
        claim = f"{self.claimed_epsilon:.2f} is claimed"
        if not self.passed:
            return f"The step is less private than it claims: {found}, {claim}."
        if self.is_blind:
            return f"Nothing is shown: {claim}, and this attack refutes at most {self.reachable:.2f}."
        return f"The claim stands: {found}, {claim}; the attack could have shown {self.reachable:.2f}."


def audit(
    audited: AuditedSteps, claimed_epsilon: float, delta: float, *, canaries: int = 1000, key: bytes | None = None
) -> AuditResult:
    """Attack private steps once.

    Each bound is above the true epsilon with a probability of at most 0.0005, so that both together make a false alarm
    in at most 1 of 1000 audits.

    Args:
        audited: the steps.
        claimed_epsilon, delta: the claim.
        canaries: how many.
        key: 32 secret bytes that all that is drawn follows from; None takes them from the operating system.
    """
    observed = observe(audited, canaries, os.urandom(KEY_BYTES) if key is None else key)
    guesses = _number_of_guesses(audited, canaries)
    correct = _correct_guesses(observed, audited.sample_rate, guesses)
    standard, f_dp = _bounds(audited, guesses, correct, delta, canaries)
    return AuditResult(
        claimed_epsilon=claimed_epsilon,
        delta=delta,
        standard_bound=standard,
        f_dp_bound=f_dp,
        reachable=max(_bounds(audited, guesses, guesses, delta, canaries)),
        guesses=guesses,
        correct=correct,
        canaries=canaries,
        sample_rate=audited.sample_rate,
        noise_multiplier=audited.noise_multiplier,
        max_grad_norm=audited.max_grad_norm,
        steps=audited.steps,
        mode=audited.mode,
        confidence=CONFIDENCE,
    )


def _bounds(audited: AuditedSteps, guesses: int, correct: int, delta: float, canaries: int) -> tuple[float, float]:
    """Return the standard bound and the f-DP bound, each at half the error that is allowed."""
    each = 1.0 - (1.0 - CONFIDENCE) / 2
    standard = standard_bound(guesses, correct, delta, each, canaries)
    f_dp = sampled_bound(guesses, correct, delta, each, canaries, sample_rate=audited.sample_rate, steps=audited.steps)
    return standard, f_dp


def _number_of_guesses(audited: AuditedSteps, canaries: int) -> int:
    """Return half the number of canaries that are expected to be in and drawn at least once: the others cannot show.

    It may not depend on what was observed, or the bounds would not hold.
    """
    shown = 1.0 - (1.0 - audited.sample_rate) ** audited.steps
    return max(1, round(canaries * shown / 4))


def _correct_guesses(observed: Observation, sample_rate: float, guesses: int) -> int:
    """Guess where the evidence is strongest, abstain elsewhere, and count the guesses that are right.

    The evidence is the log of the likelihood ratio of in to out over all steps, with the noise as it is seen where no
    example adds to it: the attacker trusts no claim.
    """
    deviation = max(_LEAST_DEVIATION, float(np.sqrt(np.mean(observed.noise**2))))
    evidence = _evidence(observed.sums, sample_rate, deviation)
    surest = np.argsort(-np.abs(evidence), kind="stable")[:guesses]
    return int(np.sum((evidence[surest] > 0) == observed.included[surest]))


def _evidence(sums: NDArray[np.float64], sample_rate: float, deviation: float) -> NDArray[np.float64]:
    """Return each canary's log likelihood ratio, shape (m,)."""
    shifted = (2.0 * sums - 1.0) / (2.0 * deviation**2)
    if sample_rate == 1.0:
        ratios = shifted
    else:
        ratios = np.logaddexp(np.log1p(-sample_rate), np.log(sample_rate) + shifted)
    total: NDArray[np.float64] = ratios.sum(axis=0)
    return total
