"""The attack on a configuration's private steps: what leaks, held against what is claimed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mltrain.config.load import name_place
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.hardware import set_determinism
from mltrain.core.logging import log
from mltrain.privacy.account import checked_plan, new_accountant
from mltrain.privacy.accounting import Accountant
from mltrain.privacy.audit import CONFIDENCE, AuditResult, audit
from mltrain.privacy.canaries import AuditedSteps
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.rounding import shown_up
from mltrain.tasks.base import TASKS
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.request import ConfigLike, read_request

__all__ = ["FULL_BATCH_NOISE", "PrivacyAudit", "audit_privacy"]

FULL_BATCH_NOISE = 1.5
"""Noise multiplier of the single full step. Its claim lies where 1000 canaries tell most: epsilon 2.8 at delta 1e-5."""

_MOST_STEPS = 1000
_SHOWN = 0.005  # less is shown as 0.00
_FEWEST_CANARIES = 100


@dataclass(frozen=True)
class PrivacyAudit:
    """What came of the attacks.

    Attributes:
        claim: what the configuration claims, and by which accountant, for people.
        results: what was attacked -> what came of it.
    """

    claim: str
    results: Mapping[str, AuditResult]

    @property
    def passed(self) -> bool:
        """Whether every claim stands."""
        return all(result.passed for result in self.results.values())

    @property
    def verdict(self) -> str:
        """One line for people."""
        failed = [name for name, result in self.results.items() if not result.passed]
        if failed:
            return f"Less private than claimed: {', '.join(failed)}."
        blind = [name for name, result in self.results.items() if result.is_blind]
        told = f" Nothing could be seen of: {', '.join(blind)}; use more canaries." if blind else ""
        sure = f"A step that keeps its claim passes each attack with probability {CONFIDENCE:.1%} or more."
        return f"No claim is refuted. {sure}{told}{self._strongest()}"

    def _strongest(self) -> str:
        """Return what could have been refuted where the attack found nothing."""
        silent = [
            f"{result.reachable:.2f} ({name})" for name, result in self.results.items() if result.lower_bound < _SHOWN
        ]
        if not silent:
            return ""
        return f" Where the bounds are 0.00, the strongest claim that could have been refuted: {', '.join(silent)}."

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "passed": self.passed,
            "verdict": self.verdict,
            "claim": self.claim,
            "attacks": [
                {"attacked": name, **asdict(result), "passed": result.passed, "verdict": result.verdict}
                for name, result in self.results.items()
            ],
        }


def audit_privacy(
    config: ConfigLike,
    overrides: Mapping[str, Any] | None = None,
    *,
    canaries: int = 1000,
    num_processes: int = 1,
    key: bytes | None = None,
    by_hand: str = "overrides",
) -> PrivacyAudit:
    """Attack the steps that a configuration trains with, by the same classes, on canaries in place of its data.

    Two attacks for each mode that may be used. One is on a single step that sees every example, with noise 1.5: there a
    fault in clipping or noise shows most. The other is on the configuration's own sample rate and noise, for as many
    steps as cost no more than that single step, and 1000 at most: to refute larger claims takes more canaries.

    Args:
        config, overrides: as `mltrain.train` takes them.
        canaries: how many, in each attack.
        num_processes: of the training; the sample rate depends on it.
        key: 32 secret bytes that all that is drawn follows from; None takes them from the operating system.
        by_hand: what the overrides are called in errors.

    Raises:
        MltrainError: the configuration cannot be used, or claims nothing.
    """
    if canaries < _FEWEST_CANARIES or num_processes < 1:
        where, least = ("canaries", _FEWEST_CANARIES) if canaries < _FEWEST_CANARIES else ("num_processes", 1)
        raise ConfigError("is too small", where=where, fix=f"Use {least} or more.")
    request = read_request(config, overrides, by_hand=by_hand)
    try:
        loaded = request.load()
        plan, accountant = _audited(loaded.config, num_processes)
        attacks = list(_attacks(loaded.config, plan, accountant))
        claim = _claim(plan, accountant)
    except MltrainError as error:
        name_place(error, request.file, request.overrides, by_hand=by_hand)
        raise
    results = {}
    for name, audited, accountant in attacks:
        results[name] = audit(audited, accountant.epsilon(audited.steps), accountant.delta, canaries=canaries, key=key)
        log.info("%s: %s", name, results[name].verdict)
    return PrivacyAudit(claim, results)


def _audited(config: Config, num_processes: int) -> tuple[PoissonPlan, Accountant]:
    """Return what is claimed of a configuration, and its plan."""
    plan = _plan(config, num_processes)
    accountant = new_accountant(config.training.dp, plan)
    if accountant.noise_multiplier == 0:
        raise ConfigError(
            "is 0: without noise nothing is claimed", where="training.dp.noise_multiplier", fix="Raise it."
        )
    return plan, accountant


def _claim(plan: PoissonPlan, accountant: Accountant) -> str:
    return (
        f"Claimed by {accountant.kind}: epsilon {shown_up(accountant.epsilon(plan.total_steps))} at delta "
        f"{shown_up(accountant.delta)} after {plan.total_steps} steps."
    )


def _attacks(
    config: Config, plan: PoissonPlan, accountant: Accountant
) -> Iterator[tuple[str, AuditedSteps, Accountant]]:
    """Give what is attacked, its name and its accountant."""
    section, switches = config.training.dp, config.reproducibility
    set_determinism(
        deterministic=switches.deterministic, benchmark=switches.benchmark, num_threads=switches.num_threads
    )
    full = Accountant(1.0, FULL_BATCH_NOISE, accountant.delta, accountant.kind)
    steps = max(1, accountant.most_steps(full.epsilon(1), min(plan.total_steps, _MOST_STEPS)))
    for mode in ("ghost", "hooks") if section.grad_sample_mode == "auto" else (section.grad_sample_mode,):
        yield f"one full step, {mode}", AuditedSteps(1, 1, 1, FULL_BATCH_NOISE, section.max_grad_norm, mode), full
        own = AuditedSteps(
            plan.num_samples, plan.batch_size, steps, accountant.noise_multiplier, section.max_grad_norm, mode
        )
        yield f"{steps} of {plan.total_steps} steps, claim of these, {mode}", own, accountant


def _plan(config: Config, num_processes: int) -> PoissonPlan:
    """Check what a run checks before it begins, and return its plan."""
    training = config.training
    trainer_class = TRAINERS.get(training.trainer_type)
    if trainer_class.guarantee is None:
        raise ConfigError(
            f"is {training.trainer_type}: nothing is claimed", where="training.trainer_type", fix="Use dp."
        )
    trainer_class.check(config)
    num_samples = len(TASKS.get(config.task)(config).datasets()["train"])
    batch_size = training.batch_size * training.gradient_accumulation_steps * num_processes
    return checked_plan(num_samples, batch_size, training.num_epochs, where="training.batch_size")
