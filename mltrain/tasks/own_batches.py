"""From the items of a user's own data set to batches that the loop can send and a module can be called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from mltrain.core.errors import DataError
from mltrain.data.loader import Batch

__all__ = ["Collate", "call", "own_batch"]

Collate = Callable[[list[Any]], Any]
"""Items -> (inputs, targets), or a dict of tensors that has "labels"."""

_FIX = 'Give items (input, target), or dicts with "labels"; or a function as collate that makes such a batch.'


def own_batch(items: list[Any], collate: Collate | None) -> Batch:
    """Return a batch: "inputs" and "labels" of items (input, target); the names of the items where they are dicts.

    Args:
        items: what the data set gave.
        collate: the user's own function; None: torch's default one, which stacks.

    Raises:
        DataError: the batch is neither.
    """
    if collate is None and not isinstance(items[0], Mapping | tuple | list):
        raise DataError(f"an item is a {type(items[0]).__name__}", where="train_dataset", fix=_FIX)
    batch = _stacked(items) if collate is None else collate(items)
    if not isinstance(batch, Mapping):
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise DataError(f"a batch is {_shown(batch)}", where="train_dataset", fix=_FIX)
        batch = {"inputs": batch[0], "labels": batch[1]}
    if "labels" not in batch:
        names = ", ".join(map(str, batch))
        raise DataError(f'a batch has {names}, but no "labels"', where="train_dataset", fix=_FIX)
    for name, value in batch.items():
        if not isinstance(value, torch.Tensor):
            raise DataError(f'"{name}" of a batch is {_shown(value)}, not a tensor', where="train_dataset", fix=_FIX)
    return dict(batch)


def call(model: nn.Module, batch: Batch) -> Any:
    """Return what the model makes of a batch: of its inputs, or of all its tensors but the labels, by name."""
    if batch.keys() == {"inputs", "labels"}:
        return model(batch["inputs"])
    return model(**{name: tensor for name, tensor in batch.items() if name != "labels"})


def _stacked(items: list[Any]) -> Any:
    try:
        return default_collate(items)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            f"items cannot be stacked into a batch ({error})",
            where="train_dataset",
            fix="Make them tensors of one shape, or give a function as collate.",
        ) from None


def _shown(value: Any) -> str:
    length = f" of {len(value)}" if isinstance(value, list | tuple) else ""
    return f"a {type(value).__name__}{length}"
