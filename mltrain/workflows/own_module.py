"""`mltrain.Trainer`: a module and data sets made in a script, with everything else as from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import torch
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, DataError, MltrainError
from mltrain.core.logging import log
from mltrain.data.dataset import SampleDataset
from mltrain.data.seeded_dataset import SeededDataset
from mltrain.tasks.base import TASKS
from mltrain.tasks.own_batches import Collate
from mltrain.tasks.own_module import LossFunction, OwnModule, OwnParts
from mltrain.workflows.request import ConfigLike, Request
from mltrain.workflows.result import TrainResult
from mltrain.workflows.train import execute

__all__ = ["Trainer"]

_CLASSIFICATION, _LOSS = "own_classification", "own_loss"


class Trainer:
    """Trains a module of your own on data sets of your own.

    The run is like any other: a run folder, checkpoints, exact resume, trackers, early stopping, a summary and reports.
    For several processes start the script with `accelerate launch` and set `training.trainer_type: accelerate`.

    A data set is map-style: it has a length, and gives by index an item `(input, target)`, or a dict of the model's
    arguments with "labels". Its items may draw from the global generators of Python, NumPy and torch, which are seeded
    for each item; so they are the same for any number of workers and in a resumed run. A data set that defines
    `load(index, generator)` and `sample_id(index)` draws from the generator that it is given instead.

    Args:
        model: called as `model(input)`, or with the names of a dict's tensors. It is trained in place, from the weights
            it has.
        train_dataset: what is learned from.
        val_dataset: validated on after each epoch, and chosen by; None: there is no validation.
        config: a YAML file, or what it would hold, with the sections that differ from the defaults; no `task` or
            `model`, and of `data` only what does not name the data (`num_workers`, `dataset_name`).
        test_dataset: evaluated once, with the chosen weights.
        loss: (outputs, targets) -> the loss of each example, shape (B,); with torch's losses reduction="none". None:
            cross-entropy, with whole class numbers as targets; then, and with `torch.nn.CrossEntropyLoss`, accuracy
            and its kin are measured as well.
        collate: items -> (inputs, targets), or a dict of tensors with "labels". None: torch's default.
        metrics: name -> (outputs, targets) -> a value for each example, shape (B,); its mean is logged for each split.

    Raises:
        ConfigError, DataError: an argument that cannot be used.
    """

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        val_dataset: Any = None,
        config: ConfigLike | None = None,
        *,
        test_dataset: Any = None,
        loss: LossFunction | None = None,
        collate: Collate | None = None,
        metrics: Mapping[str, LossFunction] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise ConfigError(f"must be a torch.nn.Module, is a {type(model).__name__}", where="model", fix="Give one.")
        given = {"train": train_dataset, "val": val_dataset, "test": test_dataset}
        datasets = {name: _sampled(name, data) for name, data in given.items() if name == "train" or data is not None}
        _check_functions(loss, collate, {} if metrics is None else metrics)
        self._parts = OwnParts(model, datasets, collate, loss, dict(metrics or {}))
        self._dataset_name = type(train_dataset).__name__
        self._config = {} if config is None else config
        classifies = loss is None or isinstance(loss, nn.CrossEntropyLoss)
        self._task_name = _CLASSIFICATION if classifies else _LOSS

    def fit(self, resume: str | PathLike[str] | None = None, *, verbose: bool = True) -> TrainResult:
        """Train, evaluate and report; afterwards the module holds the chosen weights, in evaluation mode.

        Called again it trains on from the weights that the module has by then, in a new run. The module of a run that
        was interrupted holds what it had learned so far.

        Args:
            resume: a run folder, one of its checkpoints, or "auto": the newest unfinished run of this name, if any.
            verbose: show the log on standard error while the run lasts.

        Raises:
            MltrainError: with what is wrong, where, and what to do.
        """
        result = execute(
            self._config, None, resume=resume, verbose=verbose, complete=self._complete, make_task=self._make_task
        )
        if result.status != "interrupted":
            result.packed  # noqa: B018  # reads the chosen weights into the module
        return result

    def _complete(self, request: Request) -> Request:
        """Add what the script stands for: the task, the name of the data and that of the module."""
        content = dict(request.content)
        if content.get("task", self._task_name) != self._task_name:
            raise ConfigError(
                f"is {content['task']!r}, but here the module and the data are the script's",
                where="task",
                fix="Leave out task and model, and of data what names the data.",
            )
        defaults = {
            "data": {"dataset_name": self._dataset_name},
            "model": {"architecture": type(self._parts.model).__name__},
        }
        for section, values in defaults.items():
            own = content.get(section) or {}
            content[section] = {**values, **own} if isinstance(own, Mapping) else own
        return replace(request, content={**content, "task": self._task_name})

    def _make_task(self, config: Config) -> OwnModule:
        kind: Any = TASKS.get(config.task)
        task: OwnModule = kind(config, self._parts)
        _check_batches(task)
        _check_independence(task, self._parts.model)
        return task


def _sampled(split: str, dataset: Any) -> SampleDataset:
    """Return a data set as the loop takes it; raises DataError for what is not map-style, or empty."""
    where = f"{split}_dataset"
    if not hasattr(dataset, "__len__") or not (hasattr(dataset, "__getitem__") or hasattr(dataset, "load")):
        raise DataError(
            f"a {type(dataset).__name__} is not map-style",
            where=where,
            fix="Give an object with __len__ and __getitem__(index), such as a torch Dataset.",
        )
    if len(dataset) == 0:
        raise DataError("is empty", where=where, fix="Give it samples, or leave it out.")
    draws_itself = hasattr(dataset, "load") and hasattr(dataset, "sample_id")
    sampled: SampleDataset = dataset if draws_itself else SeededDataset(dataset)
    return sampled


def _check_independence(task: OwnModule, model: nn.Module) -> None:
    """Warn where the loss of an example changes with what stands beside it, as by an unmeant broadcast."""
    dataset = task.datasets()["train"]
    if len(dataset) < 2:
        return
    items = [dataset.load(index, None) for index in (0, len(dataset) - 1)]
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            both, alone = (
                task.losses(model, {name: tensor.to(device) for name, tensor in task.collate(some).items()}).values
                for some in (items, items[:1])
            )
    finally:
        model.train(was_training)
    if not torch.allclose(both[0].float(), alone[0].float(), rtol=1e-2, atol=1e-4, equal_nan=True):
        log.warning(
            "The loss of an example is %.6g alone and %.6g beside another: it depends on the batch, and so will the "
            "gradient on how the batch is cut. Do outputs and targets have the same shape?",
            float(alone[0]), float(both[0]),
        )  # fmt: skip


def _check_functions(loss: Any, collate: Any, metrics: Any) -> None:
    if not isinstance(metrics, Mapping) or "loss" in metrics:
        raise ConfigError(
            "must be a dict of names, other than loss, and functions", where="metrics", fix='Write {"mae": function}.'
        )
    named = {f"metrics, {name}": function for name, function in metrics.items()}
    for name, function in {"loss": loss, "collate": collate, **named}.items():
        if function is not None and not callable(function):
            raise ConfigError(f"must be a function, is a {type(function).__name__}", where=name, fix="Give one.")
    if getattr(loss, "reduction", "none") != "none":
        raise ConfigError(
            f"gives one number for a batch (reduction={loss.reduction!r})",
            where="loss",
            fix=f"Make it per example: {type(loss).__name__}(reduction='none').",
        )


def _check_batches(task: OwnModule) -> None:
    """Make a batch of one sample of each split, as the loop will; raises DataError where that is none."""
    for split, dataset in task.datasets().items():
        try:
            labels = task.collate([dataset.load(0, None)])["labels"]
            task.check_labels(labels)
        except MltrainError as error:
            error.where = f"{split}_dataset"
            raise
