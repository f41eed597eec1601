"""What a batch is, and what a task's `collate` must give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from mltrain.core.errors import ConfigError

__all__ = ["Batch", "Collate", "collated"]

Batch = dict[str, torch.Tensor]
Collate = Callable[[list[Any]], Batch]


def collated(items: list[Any], collate: Collate) -> Batch:
    """Return the batch that `collate` makes of items; raises ConfigError where that is no dict of tensors."""
    batch = collate(items)
    if isinstance(batch, Mapping) and all(isinstance(tensor, torch.Tensor) for tensor in batch.values()):
        return batch
    raise ConfigError(
        f"gave {_shown(batch)}; a batch is a dict of tensors",
        where=_place(collate),
        fix='Return something like {"inputs": ..., "labels": ...}, each a tensor.',
    )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(sorted({type(item).__name__ for item in value.values()}))}"
    return f"a {type(value).__name__}"


def _place(collate: Collate) -> str:
    """Return the file and line of a function or method, with its name."""
    name = str(getattr(collate, "__qualname__", type(collate).__name__))
    code = getattr(getattr(collate, "__func__", collate), "__code__", None)
    return name if code is None else f"{Path(code.co_filename).name}:{code.co_firstlineno}, {name}"
