"""Tensors of examples, gathered over batches: on the device until they are asked for, then NumPy arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["GatheredRows", "array_from_json", "array_to_json"]

_FOLD_AFTER = 256


class GatheredRows:
    """Columns of values, one row an example, with no order among the rows.

    Batches stay on the device and are read together, so that a step does not wait. `columns` and `state` give the rows
    sorted: neither tells how batches were cut, or in which order ranks were merged.

    Args:
        names: the columns; the first ones sort first.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._pending: list[tuple[torch.Tensor, ...]] = []
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def add(self, *tensors: torch.Tensor) -> None:
        """Take in the rows of a batch, a tensor (B,) or (B, K) for each column."""
        self._pending.append(tuple(tensor.detach() for tensor in tensors))
        if len(self._pending) >= _FOLD_AFTER:
            self._fold()

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all rows, sorted: an array (N,) or (N, K) for each column; nothing before the first batch."""
        self._fold()
        if not self._parts:
            return {}
        columns = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        keys = [key for column in columns for key in column.reshape(len(column), -1).T]
        order = np.lexsort(keys[::-1])
        self._parts = [tuple(column[order] for column in columns)]
        return dict(zip(self._names, self._parts[0], strict=True))

    def state(self) -> dict[str, Any]:
        """Return all rows as JSON values."""
        return {name: array_to_json(column) for name, column in self.columns().items()}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the rows of another one."""
        if state:
            self._parts.append(tuple(array_from_json(state[name]) for name in self._names))

    def _fold(self) -> None:
        if self._pending:
            columns = (torch.cat(tensors) for tensors in zip(*self._pending, strict=True))
            self._parts.append(tuple(_to_numpy(column) for column in columns))
            self._pending.clear()


def array_to_json(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array as JSON values: its bytes, little-endian, in base64, with type and shape."""
    kind = array.dtype.newbyteorder("<")
    values = base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode("ascii")
    return {"dtype": kind.str, "shape": list(array.shape), "base64": values}


def array_from_json(value: Mapping[str, Any]) -> NDArray[Any]:
    """Return the array of `array_to_json`."""
    flat = np.frombuffer(base64.b64decode(value["base64"]), dtype=np.dtype(value["dtype"]))
    return flat.reshape(value["shape"])


def _to_numpy(column: torch.Tensor) -> NDArray[Any]:
    # NumPy has no bfloat16; every other type is kept.
    column = column.float() if column.dtype == torch.bfloat16 else column
    return np.asarray(column.cpu().numpy())
