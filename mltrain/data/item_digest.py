"""What identifies a data set of the user's own: its length and some of its items, read as in evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mltrain.data.dataset import SampleDataset

__all__ = ["items_digest"]

_ITEMS = 8


def items_digest(dataset: SampleDataset) -> tuple[str, bool]:
    """Return the sha256 of the length and of a few items spread over it, and whether items read the same twice.

    Where they do not, the digest is of the length alone.
    """
    length = len(dataset)
    chosen = sorted({round(place * (length - 1) / (_ITEMS - 1)) for place in range(_ITEMS)}) if length else []
    digest, again = (_digest(dataset, length, chosen) for _ in range(2))
    same = digest == again
    return (digest if same else _digest(dataset, length, [])), same


def _digest(dataset: SampleDataset, length: int, indices: list[int]) -> str:
    digest = hashlib.sha256(f"{length}".encode())
    for index in indices:
        _add(digest, dataset.load(index, None))
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Take in a value: kinds and structure, numbers, texts and arrays; of other things their kind alone."""
    digest.update(f"{type(value).__name__}\0".encode())
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().reshape(value.shape)
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray | np.generic):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            digest.update(f"{name}\0".encode())
            _add(digest, value[name])
    elif isinstance(value, list | tuple):
        for item in value:
            _add(digest, item)
    elif isinstance(value, str | int | float | bool | bytes | None):
        digest.update(repr(value).encode("utf-8", "surrogateescape"))
