"""From uint8 pixels to the floats that a model takes, on the model's device."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.data.image_decoding import ImageMode

__all__ = ["PRESETS", "Normalization"]

Channels = tuple[float, ...]

PRESETS: Mapping[str, tuple[Channels, Channels]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_WHERE = "data.transforms.normalize"


@dataclass(frozen=True)
class Normalization:
    """(pixel / 255 - mean) / std, channel by channel.

    Attributes:
        mean, std: one number a channel, on the scale where white is 1.

    Raises:
        ConfigError: they are of different lengths, not finite, or a standard deviation is not above zero.
    """

    mean: Channels
    std: Channels

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise ConfigError(
                f"{len(self.mean)} means and {len(self.std)} standard deviations",
                where=_WHERE,
                fix="Give one of each for every channel.",
            )
        if not all(map(math.isfinite, self.mean)) or not all(math.isfinite(std) and std > 0 for std in self.std):
            raise ConfigError(
                f"mean {list(self.mean)} and std {list(self.std)} cannot be used",
                where=_WHERE,
                fix="Give finite means, and finite standard deviations above zero.",
            )

    @classmethod
    def preset(cls, name: str, mode: ImageMode) -> Normalization:
        """Return a named one.

        Args:
            name: "imagenet" (the statistics of ImageNet), "half" (to -1..1) or "none" (to 0..1).
            mode: for "L" the three channels' numbers are averaged to one.

        Raises:
            ConfigError: no such name.
        """
        if name not in PRESETS:
            close = nearest(name, list(PRESETS))
            hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(PRESETS)}."
            raise ConfigError(f"unknown normalization {name!r}", where=_WHERE, fix=hint)
        mean, std = PRESETS[name]
        return cls(mean, std) if mode == "RGB" else cls((math.fsum(mean) / 3,), (math.fsum(std) / 3,))

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return normalized float32 pixels on the device of `pixels`, in the same memory format.

        Args:
            pixels: uint8, shape (B, C, H, W) or (C, H, W), on any device.

        Raises:
            ValueError: the pixels are not uint8, or their channels are not those of the mean.
        """
        channels = len(self.mean)
        if pixels.dtype != torch.uint8 or pixels.dim() < 3 or pixels.shape[-3] != channels:
            raise ValueError(f"{pixels.dtype} of shape {tuple(pixels.shape)}, not uint8 pixels of {channels} channels")
        scale, shift = _constants(self.mean, self.std, pixels.device)
        # Two kernels: the product converts to float32 as it reads.
        return torch.mul(pixels, scale).add_(shift)

    def to_json(self) -> dict[str, list[float]]:
        """Return JSON values that `from_json` takes."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Normalization:
        """Return the normalization that `to_json` described, or one given in a configuration as mean and std.

        Raises:
            ConfigError: `value` does not hold lists of numbers `mean` and `std`.
        """
        try:
            mean, std = (tuple(float(number) for number in value[key]) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError):
            raise ConfigError(
                f"{value!r} is not a normalization", where=_WHERE, fix="Give lists of numbers as mean and std."
            ) from None
        return cls(mean, std)


@functools.lru_cache(maxsize=64)
def _constants(mean: Channels, std: Channels, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (C, 1, 1) tensors such that pixel * scale + shift is normalized."""
    # Cached ones may be wanted outside of the inference mode that the first call came in.
    with torch.inference_mode(False):
        scale = torch.tensor([1 / (255 * s) for s in std], dtype=torch.float32)
        shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype=torch.float32)
        return scale.view(-1, 1, 1).to(device), shift.view(-1, 1, 1).to(device)
