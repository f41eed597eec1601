"""The privacy account of a run: opened, or taken up again where the run is continued, and told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.privacy.account import PrivacyAccount, new_accountant
from mltrain.privacy.ledger import Ledger
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.rounding import shown_up
from mltrain.trainers.private_checks import refuse_lost_ledger
from mltrain.trainers.private_claim import decisions_of

if TYPE_CHECKING:
    from mltrain.trainers.dp import DPTrainer

__all__ = ["announce_privacy", "open_account"]


def open_account(trainer: DPTrainer, plan: PoissonPlan) -> PrivacyAccount:
    """Return the account of a run. The main process keeps the ledger; the others learn what it says.

    Raises:
        CheckpointError: the ledger of the run is lost, damaged, or of another run.
        ConfigError: the run has spent more than it is to spend.
    """
    section = trainer.config.training.dp
    ledgers: list[Ledger] = []

    def opened() -> tuple[float, int]:
        ledgers.append(_open_ledger(trainer, plan))
        return ledgers[0].mechanism["noise_multiplier"], ledgers[0].steps

    noise, steps = trainer.processes.done_by_main(opened)
    account = PrivacyAccount(
        plan,
        new_accountant(section, plan, noise_multiplier=noise),
        target_epsilon=section.target_epsilon,
        ledger=ledgers[0] if ledgers else None,
        steps=steps,
    )
    spent = account.accountant.epsilon(steps)
    if section.target_epsilon is not None and spent > section.target_epsilon:
        raise ConfigError(
            f"is {section.target_epsilon:g}, and this run has spent {shown_up(spent)} in {steps} steps",
            where="training.dp.target_epsilon",
            fix="Give a higher one.",
        )
    return account


def announce_privacy(trainer: DPTrainer) -> None:
    """Log what the run will have spent at its end, and how far the budget goes."""
    account, accountant = trainer.account, trainer.account.accountant
    planned = account.plan.total_steps - trainer.position.step
    ahead = min(planned, trainer.steps_allowed())
    log.info(
        "Privacy: each of %d samples with probability %.6g in each step, clipped to %g, noise multiplier %.6g; "
        "epsilon %s at delta %s after %d steps%s.",
        account.plan.num_samples, accountant.sample_rate, trainer.config.training.dp.max_grad_norm,
        accountant.noise_multiplier, shown_up(accountant.epsilon(account.steps + ahead)),
        shown_up(accountant.delta), account.steps + ahead,
        f", {account.steps} of them taken before" if account.steps else "",
    )  # fmt: skip
    if ahead < planned and account.steps:
        log.warning(
            "The budget pays for %d of the %d steps that remain; all of them take training.dp.target_epsilon %s.",
            ahead, planned, shown_up(accountant.epsilon(account.steps + planned)),
        )  # fmt: skip
    log.info("%s", trainer.mode_text)
    if trainer.config.training.dp.reproducible:
        log.warning("training.dp.reproducible: samples and noise follow from the seed. There is NO privacy.")


def _open_ledger(trainer: DPTrainer, plan: PoissonPlan) -> Ledger:
    config, section = trainer.config, trainer.config.training.dp
    path = trainer.folder.privacy_ledger
    noise = Ledger.mechanism_of(path)["noise_multiplier"] if refuse_lost_ledger(trainer.folder) else None
    mechanism: dict[str, Any] = {
        "noise_multiplier": new_accountant(section, plan, noise_multiplier=noise).noise_multiplier,
        "max_grad_norm": section.max_grad_norm,
        "sample_rate": plan.sample_rate,
        "expected_batch_size": plan.batch_size,
        "num_samples": plan.num_samples,
        "dataset_digest": trainer.task.data_facts().get("digest"),
        "reproducible": section.reproducible,
    }
    segment = {
        "processes": trainer.processes.count,
        "decisions": decisions_of(config),
        "accept_selection_leak": section.accept_selection_leak,
        "callbacks": sorted(config.callbacks),
        "plugins": [Path(name).name for name in [*config.plugins, *config.evaluation.metrics]],
    }
    return Ledger(path, mechanism, segment)
