"""Augmentations that change colours and leave pixels in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageEnhance

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator
from mltrain.data.augmentation import uniform

__all__ = ["ColorJitter", "shift_hue"]

_Operation = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class ColorJitter:
    """Changes brightness, contrast, saturation and hue, in random order.

    Brightness, contrast and saturation are multiplied by a factor uniform in 1 - amount..1 + amount, but not below 0;
    hue is shifted by a share of the colour circle uniform in -amount..amount. An amount of 0 leaves a property alone.
    With n properties to change, it draws n amounts and then n - 1 numbers for the order.

    Attributes:
        brightness, contrast, saturation: at least 0.
        hue: 0 to 0.5.

    Raises:
        ConfigError: all amounts are 0.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise ConfigError(
                "changes nothing",
                where="data.transforms.train.color_jitter",
                fix="Give brightness, contrast, saturation or hue, or leave it out.",
            )

    def __call__(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        """Return the changed image."""
        operations = self._draw(rng)
        for last in range(len(operations) - 1, 0, -1):  # Fisher and Yates's shuffle
            other = rng.below(last + 1)
            operations[last], operations[other] = operations[other], operations[last]
        for operation in operations:
            image = operation(image)
        return image

    def _draw(self, rng: SampleGenerator) -> list[_Operation]:
        amounts = (
            (self.brightness, ImageEnhance.Brightness),
            (self.contrast, ImageEnhance.Contrast),
            (self.saturation, ImageEnhance.Color),
        )
        operations = [
            _enhancement(kind, uniform(rng, max(0.0, 1 - amount), 1 + amount)) for amount, kind in amounts if amount
        ]
        if self.hue:
            shift = uniform(rng, -self.hue, self.hue)
            operations.append(lambda image: shift_hue(image, shift))
        return operations


def _enhancement(kind: Callable[[Image.Image], ImageEnhance._Enhance], factor: float) -> _Operation:
    return lambda image: kind(image).enhance(factor)


def shift_hue(image: Image.Image, share: float) -> Image.Image:
    """Return an RGB image with its hue shifted by a share of the colour circle, in 255 steps of Pillow's HSV."""
    hue, saturation, value = image.convert("HSV").split()
    shift = round(share * 255)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
