"""What the loop takes for granted of a task, checked: tasks are written by users too, and mistakes have a place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mltrain.core.code_place import code_place
from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.data.loader import Batch
from mltrain.tasks.base import Losses, Metrics, Task

__all__ = [
    "check_contract",
    "check_model",
    "check_weights",
    "losses_of",
    "total_weight",
    "weights_of",
]

_SPLITS = ("train", "val", "test")


def check_contract(task: Task) -> None:
    """Look at the splits, metrics, headline and fitted values of a task, without computing anything of its model.

    Raises:
        ConfigError: one is not what `Task` says.
    """
    _check_splits(task, task.datasets())
    _check_metrics(task, task.metrics())
    _check_headline(task)
    _check_fitted(task, task.fitted())


def check_model(task: Task, model: Any) -> None:
    """Raise ConfigError where `build_model` has returned something else."""
    if not isinstance(model, nn.Module):
        raise _wrong(
            task, "build_model", f"returned {_kind(model)}", "Return the torch.nn.Module that is to be trained."
        )


def losses_of(task: Task, model: nn.Module, batch: Batch) -> Losses:
    """Return the losses of a batch.

    Raises:
        ConfigError: they are no `Losses`.
    """
    losses = task.losses(model, batch)
    if not isinstance(losses, Losses):
        fix = "Return Losses(values, outputs), with one value for each example."
        raise _wrong(task, "losses", f"returned {_kind(losses)}", fix)
    return losses


def weights_of(task: Task, batch: Batch) -> torch.Tensor | None:
    """Return the weights of the examples of a batch on the host, or None where each counts once.

    Raises:
        ConfigError: they are no numbers, or one of them is negative or not finite.
    """
    weights = task.example_weights(batch)
    if weights is None:
        return None
    if not isinstance(weights, torch.Tensor) or weights.ndim != 1:
        shape = f"a tensor of shape {tuple(weights.shape)}" if isinstance(weights, torch.Tensor) else _kind(weights)
        raise _wrong(task, "example_weights", f"returned {shape}", "Return one number for each example, shape (B,).")
    if not bool((weights >= 0).all()) or not bool(torch.isfinite(weights).all()):
        raise _wrong(task, "example_weights", "gave a weight that is negative or not finite", "Give 0 or more.")
    return weights


def check_weights(task: Task, weights: torch.Tensor, losses: Losses) -> None:
    """Raise ConfigError where a batch has not as many weights as losses."""
    if weights.shape != losses.values.shape:
        what = f"returned {len(weights)} weights for a batch with {len(losses.values)} losses"
        raise _wrong(task, "example_weights", what, "Return one number for each example, shape (B,).")


def total_weight(task: Task, total: float) -> float:
    """Return the sum of a window's weights.

    Raises:
        ConfigError: it is 0, so that there is no mean.
    """
    if total == 0:
        raise _wrong(task, "example_weights", "gave 0 to all examples of a window", "Let some of each window count.")
    return total


def _check_splits(task: Task, splits: Any) -> None:
    if not isinstance(splits, Mapping) or "train" not in splits:
        given = f"splits {', '.join(map(str, splits))}" if isinstance(splits, Mapping) else _kind(splits)
        fix = 'Return a dict of data sets, with "train" and, where there are any, "val" and "test".'
        raise _wrong(task, "datasets", f"returned {given}", fix)
    for name, dataset in splits.items():
        if name not in _SPLITS:
            raise _wrong(task, "datasets", f"has a split {name!r}", f"Known: {', '.join(_SPLITS)}.")
        if missing := [what for what in ("__len__", "sample_id", "load") if not hasattr(dataset, what)]:
            fix = "Add what is missing to the class: see mltrain.data.dataset.SampleDataset."
            raise ConfigError(f"the data set lacks {', '.join(missing)}", where=code_place(type(dataset)), fix=fix)
        if not len(dataset):
            fix = "Give it samples." if name == "train" else "Give it samples, or leave it out."
            raise _wrong(task, "datasets", f"the split {name!r} has no samples", fix)
        if not isinstance(found := dataset.sample_id(0), str):
            place = code_place(type(dataset).sample_id)
            raise ConfigError(f"returned {_kind(found)}", where=place, fix="Return a text: str(...).")


def _check_metrics(task: Task, metrics: Any) -> None:
    missing = [name for name in ("names", *sorted(Metrics.__abstractmethods__)) if not hasattr(metrics, name)]
    if missing:
        what = f"returned {_kind(metrics)}, which lacks {', '.join(missing)}"
        raise _wrong(task, "metrics", what, "Return an accumulator: a class derived from mltrain.tasks.base.Metrics.")


def _check_headline(task: Task) -> None:
    headline: Any = task.headline
    is_pair = isinstance(headline, tuple) and len(headline) == 2 and all(isinstance(part, str) for part in headline)
    place = f"{code_place(type(task))}.headline"
    if not is_pair or headline[1] not in ("min", "max"):
        fix = 'Let it be a pair such as ("val/accuracy", "max"); the second is "min" or "max".'
        raise ConfigError(f"is {headline!r}", where=place, fix=fix)
    known = [f"{split}/{name}" for split in ("train", "val") for name in task.metric_names()]
    if headline[0] not in known:
        close = nearest(headline[0], known)
        fix = f"Did you mean {close}?" if close else f"Known: {', '.join(known)}."
        raise ConfigError(f"no metric {headline[0]!r}", where=place, fix=fix)


def _check_fitted(task: Task, fitted: Any) -> None:
    try:
        json.dumps(fitted)
    except (TypeError, ValueError) as error:
        fix = "Return values of JSON: numbers, texts, lists and dicts with texts as keys."
        raise _wrong(task, "fitted", f"returned what is not JSON ({error})", fix) from None


def _wrong(task: Task, method: str, what: str, fix: str) -> ConfigError:
    return ConfigError(what, where=code_place(getattr(type(task), method)), fix=fix)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a value of type {type(value).__name__}"
