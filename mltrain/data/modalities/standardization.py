"""Means and standard deviations of arrays, found on training samples alone, and their use on the model's device."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.data.modalities.array_files import ArrayFile

__all__ = ["Standardization", "fit_standardization", "packed", "unpacked"]

# Below this share of the largest deviation, or of the mean, what varies is rounding.
_CONSTANT = 1e-6


@dataclass(frozen=True)
class Standardization:
    """(value - mean) / std for each feature: each entry of the first axis after time.

    Of a video these are its channels, of a spectrogram its mel bands, of an embedding or of responses each number.

    Attributes:
        mean, std: (F,) float32. A feature that does not vary has the std 1: it becomes 0.
        constant: the features that do not vary.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    constant: NDArray[np.int64]

    @classmethod
    def none(cls, features: int) -> Standardization:
        """Return the one that changes nothing."""
        return cls(np.zeros(features, np.float32), np.ones(features, np.float32), np.empty(0, np.int64))

    def apply(self, values: torch.Tensor) -> torch.Tensor:
        """Return float32 values of mean 0 and variance 1; features are the third axis: (B, window, F, ...)."""
        mean, std = self._on(values.device, values.ndim)
        return (values.float() - mean) / std

    def invert(self, values: torch.Tensor) -> torch.Tensor:
        """Return values in the units of the data; features are the last axis."""
        mean, std = self._on(values.device, 3)
        return values * std + mean

    def _on(self, device: torch.device, ndim: int) -> tuple[torch.Tensor, torch.Tensor]:
        return _tensors(self.mean.tobytes(), self.std.tobytes(), max(0, ndim - 3), device)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` takes."""
        return {"mean": packed(self.mean), "std": packed(self.std), "constant": self.constant.tolist()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Standardization:
        """Return what `to_json` described."""
        mean, std = (unpacked(value[key], "<f4").astype(np.float32) for key in ("mean", "std"))
        return cls(mean, std, np.asarray(value["constant"], dtype=np.int64))


def fit_standardization(arrays: Sequence[ArrayFile], times: NDArray[np.int64]) -> Standardization:
    """Return the mean and standard deviation of each feature over some times of arrays of one shape.

    Reads piece by piece, twice: the deviations are from the mean itself, so that none is lost to rounding.
    """
    mean = _mean_over(arrays, times, lambda values: values)
    variance = _mean_over(arrays, times, lambda values: (values - mean[:, None]) ** 2)
    std = np.sqrt(variance)
    constant = std <= _CONSTANT * np.maximum(np.abs(mean), std.max(initial=0.0))
    std[constant] = 1.0
    return Standardization(mean.astype(np.float32), std.astype(np.float32), np.flatnonzero(constant))


def packed(values: NDArray[Any]) -> str:
    """Return the little-endian bytes of an array as base64."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()).decode()


def unpacked(text: str, kind: str) -> NDArray[Any]:
    """Return the array that `packed` described, of one axis; `kind` is its little-endian type: "<f8"."""
    return np.frombuffer(base64.b64decode(text), dtype=kind).copy()


def _mean_over(arrays: Sequence[ArrayFile], times: NDArray[np.int64], function: Any) -> NDArray[np.float64]:
    """Return the mean of a function of values (times, F, rest) over times and rest, (F,)."""
    total, count = np.zeros(arrays[0].shape[0]), 0
    for array in arrays:
        for some in array.chunks(times):
            values = np.asarray(array.values[some], dtype=np.float64).reshape(len(some), array.shape[0], -1)
            total += function(values).sum(axis=(0, 2))
            count += len(some) * values.shape[2]
    return total / count


@functools.lru_cache(maxsize=64)
def _tensors(mean: bytes, std: bytes, further: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (F, 1, ...) tensors with as many further axes."""
    # Cached ones may be wanted outside of the inference mode that the first call came in.
    with torch.inference_mode(False):
        first, second = (torch.frombuffer(bytearray(part), dtype=torch.float32) for part in (mean, std))
        shape = (-1, *[1] * further)
        return first.view(shape).to(device), second.view(shape).to(device)
