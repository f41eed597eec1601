"""Augmentation policies without a search: TrivialAugment and RandAugment.

Both choose from the same fourteen operations and differ in how often, how strongly and over which ranges they apply
them. Every operation works on grey images as well; `color` leaves those as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageEnhance, ImageOps

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator
from mltrain.data.augmentation import filled_with

__all__ = ["OPERATIONS", "OperationSpace", "RandAugment", "TrivialAugment"]

_BILINEAR = Image.Resampling.BILINEAR
_STRONGEST = 30

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
"""The names of the operations. The order is part of the stream: an operation is drawn by its place."""


@dataclass(frozen=True)
class OperationSpace:
    """The operations, and how far each goes at full strength.

    Each method takes an image, a strength in -1..1, of which operations without a direction take the size, and the
    level, 0 to 255, of what comes into view.

    Attributes:
        max_shear: slope.
        max_rotation: degrees.
        max_enhancement: distance from 1 of the factor of brightness, color, contrast and sharpness.
        min_bits: bits of each channel that posterize leaves, of 8.
        max_translation: shift as a share of the image's side.
        max_translation_pixels: the same in pixels; the lesser of the two counts.
    """

    max_shear: float
    max_rotation: float
    max_enhancement: float
    min_bits: int
    max_translation: float
    max_translation_pixels: float = math.inf

    def apply(self, place: int, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Return an image changed by the operation at a place of `OPERATIONS`."""
        operation: Callable[[Image.Image, float, int], Image.Image] = getattr(self, OPERATIONS[place])
        return operation(image, strength, fill)

    def identity(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Leave the image as it is."""
        return image

    def shear_x(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Shift rows in proportion to their distance from the top."""
        return _mapped(image, (1, strength * self.max_shear, 0, 0, 1, 0), fill)

    def shear_y(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Shift columns in proportion to their distance from the left."""
        return _mapped(image, (1, 0, 0, strength * self.max_shear, 1, 0), fill)

    def translate_x(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Shift horizontally."""
        return _mapped(image, (1, 0, strength * self._translation(image.width), 0, 1, 0), fill)

    def translate_y(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Shift vertically."""
        return _mapped(image, (1, 0, 0, 0, 1, strength * self._translation(image.height)), fill)

    def rotate(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Rotate about the centre."""
        return image.rotate(strength * self.max_rotation, _BILINEAR, fillcolor=filled_with(image, fill))

    def brightness(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Move away from black, or towards it."""
        return ImageEnhance.Brightness(image).enhance(1 + strength * self.max_enhancement)

    def color(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Move away from grey, or towards it; grey images stay as they are."""
        return image if image.mode == "L" else ImageEnhance.Color(image).enhance(1 + strength * self.max_enhancement)

    def contrast(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Move away from the mean, or towards it."""
        return ImageEnhance.Contrast(image).enhance(1 + strength * self.max_enhancement)

    def sharpness(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Move away from a smoothed image, or towards it."""
        return ImageEnhance.Sharpness(image).enhance(1 + strength * self.max_enhancement)

    def posterize(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Keep only the leading bits."""
        return ImageOps.posterize(image, 8 - round(abs(strength) * (8 - self.min_bits)))

    def solarize(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Invert levels from a threshold on, which falls from 256 to 0."""
        return ImageOps.solarize(image, round(256 * (1 - abs(strength))))

    def autocontrast(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Stretch each channel to the full range."""
        return ImageOps.autocontrast(image)

    def equalize(self, image: Image.Image, strength: float, fill: int) -> Image.Image:
        """Equalize the histogram of each channel."""
        return ImageOps.equalize(image)

    def _translation(self, side: int) -> float:
        return min(self.max_translation * side, self.max_translation_pixels)


_WIDE = OperationSpace(
    max_shear=0.99,
    max_rotation=135,
    max_enhancement=0.99,
    min_bits=2,
    max_translation=1.0,
    max_translation_pixels=32,
)
_STANDARD = OperationSpace(max_shear=0.3, max_rotation=30, max_enhancement=0.9, min_bits=4, max_translation=150 / 331)


def _mapped(image: Image.Image, back: tuple[float, ...], fill: int) -> Image.Image:
    """Return an image whose pixel at (x, y) comes from (a x + b y + c, d x + e y + f), `back` being a to f."""
    colour = filled_with(image, fill)
    return image.transform(image.size, Image.Transform.AFFINE, back, _BILINEAR, fillcolor=colour)


@dataclass(frozen=True)
class TrivialAugment:
    """One operation drawn evenly, at a strength drawn evenly from 31 levels, in either direction. Draws three times.

    TrivialAugmentWide of Müller and Hutter 2021, "TrivialAugment: tuning-free yet state-of-the-art data augmentation",
    with bilinear resampling; images of less than 32 pixels are moved by no more than their side.

    Attributes:
        fill: level, 0 to 255, of what comes into view.
    """

    fill: int = 0

    def __call__(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        """Return the changed image."""
        place = rng.below(len(OPERATIONS))
        strength = rng.below(_STRONGEST + 1) / _STRONGEST
        return _WIDE.apply(place, image, -strength if rng.random() < 0.5 else strength, self.fill)


@dataclass(frozen=True)
class RandAugment:
    """Several operations drawn evenly, all at one strength, in either direction. Draws twice for each.

    Cubuk et al. 2020, "RandAugment: practical automated data augmentation with a reduced search space", with bilinear
    resampling.

    Attributes:
        num_ops: how many are applied, one after the other.
        magnitude: their strength, 0 to 30.
        fill: level, 0 to 255, of what comes into view.

    Raises:
        ConfigError: the magnitude is out of range.
    """

    num_ops: int = 2
    magnitude: int = 9
    fill: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= _STRONGEST:
            raise ConfigError(
                f"{self.magnitude} is not a strength",
                where="data.transforms.train.rand_augment.magnitude",
                fix=f"Use 0 to {_STRONGEST}.",
            )

    def __call__(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        """Return the changed image."""
        strength = self.magnitude / _STRONGEST
        for _ in range(self.num_ops):
            place = rng.below(len(OPERATIONS))
            image = _STANDARD.apply(place, image, -strength if rng.random() < 0.5 else strength, self.fill)
        return image
