"""What the privacy statement of a run is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mltrain.config.training import metric_name
from mltrain.privacy.claim import PrivacyClaim
from mltrain.privacy.noise import NOISE_SOURCE

if TYPE_CHECKING:
    from mltrain.trainers.dp import DPTrainer

__all__ = ["claim_of"]


def claim_of(trainer: DPTrainer, *, under_way: bool, steps_ahead: int = 0) -> PrivacyClaim:
    """Return the claim of a run after the steps that it has counted and so many more."""
    config, account, accountant = trainer.config, trainer.account, trainer.account.accountant
    section = config.training.dp
    selection = config.checkpointing.selection or trainer.default_selection
    return PrivacyClaim(
        run_name=trainer.folder.name,
        sample_rate=accountant.sample_rate,
        noise_multiplier=accountant.noise_multiplier,
        max_grad_norm=section.max_grad_norm,
        num_samples=account.plan.num_samples,
        batch_size=account.plan.batch_size,
        planned_steps=account.plan.total_steps,
        delta=accountant.delta,
        accountant=section.accountant,
        steps_counted=account.steps + steps_ahead,
        steps_learned=trainer.position.step,
        grad_sample_mode=trainer.grad_sample_mode,
        noise_source="the seed of the configuration" if section.reproducible else NOISE_SOURCE,
        target_epsilon=account.target_epsilon,
        data_digest=trainer.task.data_facts().get("digest"),
        initial_weights=trainer.task.initial_weights(),
        validation_is_public=config.data.validation_is_public,
        accept_selection_leak=section.accept_selection_leak,
        selection="best" if selection == "best" else "last",
        decisions=_decisions(trainer, selection),
        non_private=trainer.non_private(config),
        ema=config.training.ema.enabled,
        reproducible=section.reproducible,
        num_processes=trainer.processes.count,
        num_segments=account.segments,
        under_way=under_way,
    )


def _decisions(trainer: DPTrainer, selection: str) -> dict[str, str]:
    """Return what logged values decide in this run."""
    config = trainer.config
    monitor = config.checkpointing.monitor
    decisions = {}
    if selection == "best":
        decisions["the chosen weights"] = metric_name(monitor) if monitor else trainer.task.headline[0]
    if config.early_stopping.enabled:
        decisions["the end of the run"] = metric_name(config.early_stopping.monitor)
    if config.scheduler.name == "plateau":
        decisions["the learning rate"] = metric_name(config.scheduler.monitor)
    return decisions
