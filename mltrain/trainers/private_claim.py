"""What the privacy statement of a run is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mltrain.config.schema import Config
from mltrain.config.training import metric_name
from mltrain.privacy.claim import PrivacyClaim
from mltrain.privacy.noise import NOISE_SOURCE

if TYPE_CHECKING:
    from mltrain.trainers.dp import DPTrainer

__all__ = ["State", "claim_of", "decisions_of"]


State = Literal["under way", "interrupted", "ended"]


def claim_of(trainer: DPTrainer, *, state: State, steps_ahead: int = 0) -> PrivacyClaim:
    """Return the claim of a run after the steps that it has counted and so many more."""
    config, account, accountant = trainer.config, trainer.account, trainer.account.accountant
    section, segments = config.training.dp, trainer.account.segments
    selection = config.checkpointing.selection or trainer.default_selection
    decisions = {what: name for segment in segments for what, name in segment["decisions"].items()}
    if selection == "best":
        monitor = config.checkpointing.monitor
        decisions["the chosen weights"] = metric_name(monitor) if monitor else trainer.task.headline[0]
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
        accept_selection_leak=any(segment["accept_selection_leak"] for segment in segments),
        fitted=tuple(sorted(trainer.task.fitted())),
        selection="best" if selection == "best" else "last",
        decisions=decisions,
        non_private=trainer.non_private(config),
        ema=config.training.ema.enabled,
        reproducible=section.reproducible,
        num_processes=max(segment["processes"] for segment in segments),
        num_segments=len(segments),
        callbacks=tuple(sorted({name for segment in segments for name in segment["callbacks"]})),
        plugins=tuple(sorted({name for segment in segments for name in segment["plugins"]})),
        state=state,
    )


def decisions_of(config: Config) -> dict[str, str]:
    """Return what logged values decide while a configuration is trained: what -> the name of the value."""
    decisions = {}
    if config.early_stopping.enabled:
        decisions["the end of the run"] = metric_name(config.early_stopping.monitor)
    if config.scheduler.name == "plateau":
        decisions["the learning rate"] = metric_name(config.scheduler.monitor)
    return decisions
