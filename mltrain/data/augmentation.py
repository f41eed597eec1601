"""What an augmentation is, and the draws that several of them share."""

from __future__ import annotations

import math
from typing import Protocol

from PIL import Image

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator

__all__ = ["Augmentation", "Interval", "check_interval", "filled_with", "random_rectangle", "uniform"]

Interval = tuple[float, float]


class Augmentation(Protocol):
    """Changes the pixels of an image, not its size or mode.

    How often it draws depends on its own settings alone, never on the image or on what was drawn: so a draw of the
    steps that follow means the same for every image.
    """

    def __call__(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        """Return the changed image; `rng` is the sample's own generator and the only source of chance."""
        ...


def uniform(rng: SampleGenerator, low: float, high: float) -> float:
    """Return a number uniform in [low, high). Draws once."""
    return low + (high - low) * rng.random()


def random_rectangle(
    size: tuple[int, int], scale: Interval, ratio: Interval, rng: SampleGenerator
) -> tuple[float, float]:
    """Return width and height of a rectangle that fits into an image. Draws twice.

    The share of the area is uniform in `scale`; the aspect ratio is log-uniform in the part of `ratio` with which that
    area fits. Where none does, the rectangle is the largest that fits with the nearest ratio. The usual way (Szegedy et
    al. 2015, "Going deeper with convolutions"), which draws until a rectangle fits, would draw more often for some
    images than for others.

    Args:
        size: width and height of the image.
        scale: least and greatest share of the image's area.
        ratio: least and greatest width / height.
        rng: the sample's own generator.
    """
    width, height = size
    area = uniform(rng, *scale) * width * height
    least, greatest = area / height**2, width**2 / area
    low, high = max(ratio[0], least), min(ratio[1], greatest)
    if low > high:
        low = high = ratio[1] if ratio[1] < least else ratio[0]
    aspect = math.exp(uniform(rng, math.log(low), math.log(high)))
    box_width = min(math.sqrt(area * aspect), width, height * aspect)
    return box_width, min(box_width / aspect, height)


def filled_with(image: Image.Image, level: int) -> int | tuple[int, ...]:
    """Return the colour that is `level` in every channel, as Pillow wants it for this image."""
    channels = len(image.getbands())
    return level if channels == 1 else (level,) * channels


def check_interval(interval: Interval, where: str) -> None:
    """Raise ConfigError where an interval ends before it begins."""
    low, high = interval
    if low > high:
        raise ConfigError(f"{low:g} is above {high:g}", where=where, fix=f"Write [{high:g}, {low:g}].")
