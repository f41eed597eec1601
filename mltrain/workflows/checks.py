"""Checks of a configuration that need the task or torch, made before any compute is spent."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from mltrain.callbacks.base import CALLBACKS, Callback
from mltrain.config.schema import Config
from mltrain.config.training import metric_name
from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.tasks.base import Task
from mltrain.trainers.optimizers import optimizer_class

__all__ = ["best_metric", "check_training", "plugin_callbacks"]


def check_training(config: Config, task: Task) -> None:
    """Raise ConfigError for an optimizer, a model or a monitored metric that cannot be had."""
    optimizer_class(config.optimizer)
    with torch.device("meta"):  # shapes only: neither memory nor time is spent on weights
        task.build_model()
    if config.early_stopping.enabled:
        _check_metric(config.early_stopping.monitor, "early_stopping.monitor", task)
    if config.scheduler.name == "plateau":
        _check_metric(config.scheduler.monitor, "scheduler.monitor", task)
    if config.checkpointing.monitor is not None:
        _check_metric(config.checkpointing.monitor, "checkpointing.monitor", task)


def best_metric(config: Config, task: Task) -> tuple[str, str]:
    """Return the metric that makes a checkpoint the best, as it is logged, and "min" or "max"."""
    section = config.checkpointing
    if section.monitor is not None and section.mode is not None:
        return metric_name(section.monitor), section.mode
    return task.headline


def plugin_callbacks(config: Config) -> list[Callback]:
    """Return the callbacks that the configuration names.

    Raises:
        ConfigError: unknown name, or arguments that it does not take.
    """
    return [_callback(name, arguments) for name, arguments in config.callbacks.items()]


def _callback(name: str, arguments: dict[str, Any]) -> Callback:
    kind = CALLBACKS.get(name)
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise ConfigError(str(error), where=f"callbacks.{name}", fix="Correct its arguments.") from None
    return kind(**arguments)


def _check_metric(monitor: str, key: str, task: Task) -> None:
    splits = [split for split in ("train", "val") if split in task.datasets()]
    known = [f"{split}/{name}" for split in splits for name in task.metric_names()]
    if metric_name(monitor) not in known:
        spelt = [name.replace("/", "_") for name in known]
        close = nearest(monitor.replace("/", "_"), spelt)
        hint = f"Did you mean {close}?" if close else f"Known: {', '.join(spelt)}."
        reason = " (there is no validation split)" if "val" not in splits and monitor.startswith("val") else ""
        raise ConfigError(f"no metric {monitor!r}{reason}", where=key, fix=hint)
