"""What private training refuses before it begins, because its promise would not hold."""

from __future__ import annotations

import copy

import torch

from mltrain.config.schema import Config
from mltrain.config.training import metric_name
from mltrain.core.errors import ConfigError
from mltrain.data.batches import Batch, collated
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.privacy.account import checked_plan, new_accountant
from mltrain.privacy.coupling import refuse_coupled, refuse_coupled_task
from mltrain.tasks.base import Task

__all__ = ["check_private_config", "check_private_task", "probe_batch"]

_PROBED = 8


def check_private_config(config: Config) -> None:
    """Raise ConfigError for a configuration that cannot be private, whatever the task."""
    section = config.training.dp
    if section.noise_multiplier is None and section.target_epsilon is None:
        raise ConfigError(
            "neither noise_multiplier nor target_epsilon is set",
            where="training.dp",
            fix="Set training.dp.target_epsilon=3.0, or another budget; the noise follows from it.",
        )
    if section.noise_multiplier == 0 and not section.reproducible:
        raise ConfigError(
            "is 0: without noise there is no privacy",
            where="training.dp.noise_multiplier",
            fix="Leave it out and set training.dp.target_epsilon, or train with trainer_type: accelerate.",
        )

    if config.reproducibility.tf32:
        raise ConfigError(
            "is true: norms that are wrong by a thousandth do not bound what an example adds",
            where="reproducibility.tf32",
            fix="Leave it out.",
        )


def check_private_task(config: Config, task: Task, *, processes: int) -> None:
    """Raise ConfigError where the task, its data or its model cannot be trained privately as configured.

    Args:
        config: the configuration.
        task: its data read.
        processes: how many train.
    """
    refuse_coupled_task(task)
    _check_selection(config, task)
    training = config.training
    batch_size = training.batch_size * training.gradient_accumulation_steps * processes
    num_samples = len(task.datasets()["train"])
    plan = checked_plan(num_samples, batch_size, training.num_epochs, where="training.batch_size")
    accountant = new_accountant(training.dp, plan)
    target = training.dp.target_epsilon
    if target is not None and accountant.most_steps(target, 1) < 1:
        raise ConfigError(
            f"is {target:g}, and the first step passes it: it costs epsilon {accountant.epsilon(1):.4g}",
            where="training.dp.target_epsilon",
            fix="Raise training.dp.noise_multiplier, or leave it out: the noise then follows from the target.",
        )
    with torch.random.fork_rng(devices=[]):
        # A task of a script gives the user's own module, which is not changed before the run.
        model = copy.deepcopy(task.build_model())
        adapt_for_privacy(model)
        refuse_coupled(task, model, probe_batch(task, _PROBED), device=torch.device("cpu"))


def probe_batch(task: Task, size: int) -> Batch:
    """Return a batch of samples spread over the training split, not augmented; neighbours often share a label."""
    dataset = task.datasets()["train"]
    count = min(size, len(dataset))
    indices = [number * len(dataset) // count for number in range(count)]
    return collated([dataset.load(index, None) for index in indices], task.collate)


def _check_selection(config: Config, task: Task) -> None:
    """Refuse that weights, the end or the learning rate depend on data that epsilon does not cover."""
    section = config.checkpointing
    best_by = metric_name(section.monitor) if section.monitor is not None else task.headline[0]
    choices = (
        ("checkpointing.selection", "best", section.selection == "best", best_by),
        ("early_stopping.enabled", "true", config.early_stopping.enabled, metric_name(config.early_stopping.monitor)),
        ("scheduler.name", "plateau", config.scheduler.name == "plateau", metric_name(config.scheduler.monitor)),
    )
    for key, value, chosen, metric in choices:
        covered = metric.startswith("val/") and config.data.validation_is_public
        if chosen and not covered and not config.training.dp.accept_selection_leak:
            fix = "Leave it out"
            if metric.startswith("val/"):
                fix += ", set data.validation_is_public=true if the validation data is nobody's"
            raise ConfigError(
                f"is {value}: {metric} would choose what is learned, and epsilon does not cover that",
                where=key,
                fix=f"{fix}, or accept the leak with training.dp.accept_selection_leak=true.",
            )
