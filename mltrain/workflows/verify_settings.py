"""What is run to verify that a configuration resumes exactly: the configuration itself, with checkpoints and marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mltrain.callbacks import position_marks
from mltrain.config.load import LoadedConfig, name_place
from mltrain.config.schema import Config, TrackerSection
from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.hardware import as_if_launched, check_device
from mltrain.core.logging import log
from mltrain.data.plan import ShuffledPlan
from mltrain.tasks.base import TASKS
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.checks import check_training
from mltrain.workflows.request import ConfigLike, read_request

__all__ = ["check_verification", "verification_settings"]

_SAVES = 20


def check_verification(
    config: ConfigLike, overrides: Mapping[str, Any] | None, *, num_processes: int, by_hand: str
) -> tuple[LoadedConfig, int]:
    """Return the checked configuration and the steps of the run; say first where equal bits cannot be expected.

    Raises:
        MltrainError: the configuration cannot be used.
    """
    request = read_request(config, overrides, by_hand=by_hand)
    try:
        loaded = request.load()
        steps = _checked_steps(loaded.config, num_processes)
    except MltrainError as error:
        name_place(error, request.file, request.overrides, by_hand=by_hand)
        raise
    _warn_if_not_deterministic(loaded.config)
    return loaded, steps


def verification_settings(loaded: LoadedConfig, steps: int, folder: Path) -> dict[str, Any]:
    """Return the configuration of all runs of a verification, as plain values; what differs from the user's is told.

    Args:
        loaded: the user's configuration.
        steps: optimizer steps of the run.
        folder: where the runs lie.
    """
    settings: dict[str, Any] = loaded.config.model_dump()
    settings["run"]["dir"] = str(folder)
    settings["plugins"] = [*settings["plugins"], position_marks.__file__]
    if settings["checkpointing"]["every_n_steps"] is None:
        every = max(1, steps // _SAVES)
        settings["checkpointing"]["every_n_steps"] = every
        log.info(
            "checkpointing.every_n_steps is %d in all runs, for their %d steps; set it to have another.", every, steps
        )
    off = [name for name in _trackers_on(loaded.config) if f"tracking.{name}.enabled" not in loaded.overrides]
    for name in off:
        settings["tracking"][name]["enabled"] = False
    if off or settings["tracking"]["others"]:
        told = ", ".join([*off, *settings["tracking"]["others"]])
        log.info("Not sent to trackers (%s); tracking.mlflow.enabled=true on the command line sends them.", told)
    settings["tracking"]["others"] = {}
    return settings


def _trackers_on(config: Config) -> list[str]:
    return [name for name, section in config.tracking if isinstance(section, TrackerSection) and section.enabled]


def _checked_steps(config: Config, num_processes: int) -> int:
    """Check what a run checks before it begins, and return its number of steps."""
    trainer_class = TRAINERS.get(config.training.trainer_type)
    if not trainer_class.repeats_exactly(config):
        raise ConfigError(
            f"{trainer_class.name} draws what nobody can draw again: a resumed run never has the same bits",
            where="training.trainer_type",
            fix="Set training.dp.reproducible=true to verify all else; such a run is not private.",
        )
    with as_if_launched(num_processes):
        trainer_class.check(config)
        task = TASKS.get(config.task)(config)
        check_training(config, task)
        trainer_class.check_task(config, task, None)
    training = config.training
    window_size = training.batch_size * num_processes * training.gradient_accumulation_steps
    plan = ShuffledPlan(len(task.datasets()["train"]), window_size, config.seed)
    steps = plan.windows_per_epoch * training.num_epochs
    if steps < 2:
        raise ConfigError(
            "the run has a single step: nothing can be resumed",
            where="training.num_epochs",
            fix="Train longer, or in smaller batches.",
        )
    return steps


def _warn_if_not_deterministic(config: Config) -> None:
    switches = config.reproducibility
    reasons = {
        "reproducibility.deterministic is false": not switches.deterministic,
        "reproducibility.benchmark is true": switches.benchmark,
        "training.compile.dynamic is true": config.training.compile.enabled and config.training.compile.dynamic,
        "this device has no deterministic form of some operations": check_device(config.training.device) == "mps",
    }
    for reason in (text for text, holds in reasons.items() if holds):
        log.warning("Not deterministic (%s): two straight runs may differ as well, resumed or not.", reason)
