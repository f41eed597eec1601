"""Checks of a configuration that need the task or torch, made before any compute is spent."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import torch
from torch import nn

from mltrain.callbacks.base import CALLBACKS, Callback
from mltrain.config.schema import Config
from mltrain.config.training import metric_name
from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.logging import log
from mltrain.core.registry import Registry, nearest
from mltrain.models.gradient_checkpointing import refuse_without_checkpointing
from mltrain.tasks.base import Task
from mltrain.tasks.contract import check_contract, check_model
from mltrain.tracking.base import TRACKERS
from mltrain.trainers.compilation import check_compilation
from mltrain.trainers.optimizers import build_optimizer

__all__ = ["best_metric", "check_batch_size", "check_training", "plugin_callbacks"]

T = TypeVar("T")


def check_training(config: Config, task: Task) -> None:
    """Raise ConfigError for a task, optimizer, model, batch, tracker or evaluate module, or a metric, not to be had."""
    check_contract(task)
    build_optimizer(config.optimizer, nn.ParameterList([torch.zeros(2, 2)]))
    _check_model(config, task)
    check_batch_size(config, task)
    check_compilation(config)
    _check_evaluation(config, task)
    for name, settings in config.tracking.settings().items():
        _registered(TRACKERS, name, f"tracking.others.{name}").check(settings)
    if config.early_stopping.enabled:
        _check_metric(config.early_stopping.monitor, config.early_stopping.mode, "early_stopping.monitor", task)
    if config.scheduler.name == "plateau":
        _check_metric(config.scheduler.monitor, config.scheduler.mode, "scheduler.monitor", task)
    if config.checkpointing.monitor is not None:
        _check_metric(config.checkpointing.monitor, config.checkpointing.mode, "checkpointing.monitor", task)
    for name, mode in config.checkpointing.also_best.items():
        _check_metric(name, mode, f"checkpointing.also_best.{name}", task)


def check_batch_size(config: Config, task: Task) -> None:
    """Raise ConfigError where microbatches cannot hold whole groups of samples that belong together."""
    size = config.training.batch_size
    if size % task.group_size:
        raise ConfigError(
            f"is {size}, but samples are combined in groups of {task.group_size}",
            where="training.batch_size",
            fix=f"Use a multiple of {task.group_size}.",
        )


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
    kind = _registered(CALLBACKS, name, f"callbacks.{name}")
    try:
        inspect.signature(kind).bind(**arguments)
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} refuses its arguments ({error})", where=f"callbacks.{name}", fix="Correct them."
        ) from error


def _registered(registry: Registry[T], name: str, key: str) -> T:
    try:
        return registry.get(name)
    except ConfigError as error:
        error.where = key
        raise


def _check_model(config: Config, task: Task) -> None:
    """Build the model without memory or time for its weights."""
    try:
        with torch.device("meta"):
            model = task.build_model()
        check_model(task, model)
        if config.training.gradient_checkpointing:
            refuse_without_checkpointing(model)
    except MltrainError:
        raise
    except Exception as error:
        # A model that reads values while it is built cannot be built without any. It is built in earnest soon.
        log.debug("The model could not be checked ahead: %s: %s", type(error).__name__, error)


def _check_evaluation(config: Config, task: Task) -> None:
    """Load the evaluate modules that the configuration names, and try them."""
    if not config.evaluation.metrics:
        return
    if not task.takes_evaluation_modules:
        raise ConfigError(
            f"{config.task} has no predictions for evaluate modules",
            where="evaluation.metrics",
            fix="Take them out; figures of its own are computed by the task's metrics.",
        )
    names = task.metric_names()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"a module gives a figure {twice[0]!r}, which the task has as well",
            where="evaluation.metrics",
            fix="Give it another name.",
        )


def _check_metric(monitor: str, mode: str | None, key: str, task: Task) -> None:
    splits = [split for split in ("train", "val") if split in task.datasets()]
    known = [f"{split}/{name}" for split in splits for name in task.metric_names()]
    if metric_name(monitor) not in known:
        spelt = [name.replace("/", "_") for name in known]
        split, _, rest = metric_name(monitor).partition("/")
        longer = [name for name in spelt if rest and name.startswith(f"{split}_") and name.endswith(f"_{rest}")]
        close = longer[0] if longer else nearest(monitor.replace("/", "_"), spelt)
        hint = f"Did you mean {close}?" if close else f"Known: {', '.join(spelt)}."
        reason = " (there is no validation split)" if "val" not in splits and monitor.startswith("val") else ""
        raise ConfigError(f"no metric {monitor!r}{reason}", where=key, fix=hint)
    headline, best_mode = task.headline
    modes = {headline.partition("/")[2]: best_mode, "loss": "min"}
    if mode != modes.get(metric_name(monitor).partition("/")[2], mode):
        log.warning("%s: the mode is %s, but of %s the other extreme is better.", key, mode, monitor)
