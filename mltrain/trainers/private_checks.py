"""What private training refuses before it begins, because its promise would not hold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from mltrain.config.schema import Config
from mltrain.config.training import metric_name
from mltrain.core.errors import CheckpointError, ConfigError
from mltrain.core.files import read_record
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.data.batches import Batch, collated
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.privacy.account import checked_plan, new_accountant
from mltrain.privacy.collation import refuse_coupled_collation
from mltrain.privacy.coupling import refuse_coupled, refuse_coupled_task
from mltrain.privacy.ledger import Ledger
from mltrain.tasks.base import Task

__all__ = ["check_private_config", "check_private_task", "probe_batch", "refuse_lost_ledger"]

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
    for key, wished in (
        ("training.compile.enabled", config.training.compile.enabled),
        ("training.gradient_checkpointing", config.training.gradient_checkpointing),
    ):
        if wished:
            raise ConfigError(
                "is true: dp watches each layer being called once, forward and backward, to clip each example",
                where=key,
                fix="Leave it out.",
            )
    if config.reproducibility.tf32:
        raise ConfigError(
            "is true: norms that are wrong by a thousandth do not bound what an example adds",
            where="reproducibility.tf32",
            fix="Leave it out.",
        )


def check_private_task(config: Config, task: Task, continued: RunFolder | None, *, processes: int) -> None:
    """Raise ConfigError where the task, its data or its model cannot be trained privately as configured.

    Args:
        config: the configuration.
        task: its data read.
        continued: the run that is continued; None: a new one.
        processes: how many train.

    Raises:
        CheckpointError: the run that is continued has lost its ledger.
    """
    refuse_coupled_task(task)
    _check_selection(config, task)
    _check_fitted(config, task)
    _check_initial_weights(config, task)
    noise = _noise_of(continued)
    training = config.training
    batch_size = training.batch_size * training.gradient_accumulation_steps * processes
    num_samples = len(task.datasets()["train"])
    plan = checked_plan(num_samples, batch_size, training.num_epochs, where="training.batch_size")
    accountant = new_accountant(training.dp, plan, noise_multiplier=noise)
    target = training.dp.target_epsilon
    if continued is None and target is not None and accountant.most_steps(target, 1) < 1:
        raise ConfigError(
            f"is {target:g}, and the first step passes it: it costs epsilon {accountant.epsilon(1):.4g}",
            where="training.dp.target_epsilon",
            fix="Raise training.dp.noise_multiplier, or leave it out: the noise then follows from the target.",
        )
    with torch.random.fork_rng(devices=[]):
        # A task of a script gives the user's own module, which is not changed before the run.
        model = copy.deepcopy(task.build_model())
        adapt_for_privacy(model)
        cpu = torch.device("cpu")
        refuse_coupled(task, model, probe_batch(task, _PROBED), device=cpu)
        refuse_coupled_collation(task, model, _probe_items(task, _PROBED), device=cpu)
    if config.callbacks or config.plugins or config.evaluation.metrics:
        log.warning("Code of plugins sees private values; that it does not use them, epsilon cannot promise.")


def _noise_of(continued: RunFolder | None) -> float | None:
    """Return the noise multiplier of a run that is continued; it never changes. None: it is not known yet."""
    if continued is None or not refuse_lost_ledger(continued):
        return None
    return float(Ledger.mechanism_of(continued.privacy_ledger)["noise_multiplier"])


def refuse_lost_ledger(folder: RunFolder) -> bool:
    """Return whether a run that is continued has a ledger.

    Raises:
        CheckpointError: there is none, though steps may have been taken.
    """
    if folder.privacy_ledger.exists():
        return True
    # The statement is written before the first step is, and after the ledger.
    traces = (folder.reports / "privacy.json", *folder.checkpoints.glob("step-*"))
    if any(trace.exists() for trace in traces):
        raise CheckpointError(
            "is missing: what this run has spent is not known",
            where=str(folder.privacy_ledger),
            fix="Put the file of the run back, or start a new run.",
        )
    return False


def probe_batch(task: Task, size: int) -> Batch:
    """Return a batch of samples spread over the training split, not augmented; neighbours often share a label."""
    return collated(_probe_items(task, size), task.collate)


def _probe_items(task: Task, size: int) -> list[Any]:
    dataset = task.datasets()["train"]
    count = min(size, len(dataset))
    return [dataset.load(number * len(dataset) // count, None) for number in range(count)]


def _check_initial_weights(config: Config, task: Task) -> None:
    """Refuse weights of a run on the same data: what that run has learned of it, this one's epsilon does not count."""
    wish = getattr(config.model, "weights", None)
    if not isinstance(wish, str):
        return
    path = Path(wish).expanduser()
    for folder in (path, *list(path.parents)[:3]):
        known = (read_record(folder / "metadata.json").get("data") or {}).get("digest")
        if known is not None and known == task.data_facts().get("digest"):
            raise ConfigError(
                f"{wish} comes from a run on the same data, and epsilon would not count what that run has learned",
                where="model.weights",
                fix="Begin with weights from public data, or continue that run itself with --resume.",
            )


def _check_fitted(config: Config, task: Task) -> None:
    """Refuse what was computed from the training data without noise, and becomes a part of the model."""
    fitted = sorted(task.fitted())
    if fitted and not config.training.dp.accept_fitted_leak:
        raise ConfigError(
            f"the {' and the '.join(fitted)} would be computed from the training data without noise, and epsilon does "
            "not cover that",
            where="training.dp.accept_fitted_leak",
            fix="Take it from public data, as a tokenizer from a folder, or accept the leak by setting this to true.",
        )


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
