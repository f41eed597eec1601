"""Augmentations that move pixels: the part of the image that is seen, rotation, and affine maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator
from mltrain.data.augmentation import Interval, check_interval, filled_with, random_rectangle, uniform

__all__ = ["RandomAffine", "RandomResizedCrop", "RandomRotation"]

_BILINEAR = Image.Resampling.BILINEAR
_WHERE = "data.transforms.train"


@dataclass(frozen=True)
class RandomResizedCrop:
    """Chooses a part of random area, aspect ratio and place (Szegedy et al. 2015), to be resampled to the output size.

    Attributes:
        scale: least and greatest share of the image's area.
        ratio: least and greatest width / height of the part.
    """

    scale: Interval = (0.08, 1.0)
    ratio: Interval = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        check_interval(self.scale, f"{_WHERE}.random_resized_crop.scale")
        check_interval(self.ratio, f"{_WHERE}.random_resized_crop.ratio")

    def box(self, size: tuple[int, int], rng: SampleGenerator) -> tuple[float, float, float, float]:
        """Return (left, top, right, bottom) in pixels of an image of `size` (width, height). Draws four times."""
        width, height = size
        box_width, box_height = random_rectangle(size, self.scale, self.ratio, rng)
        left, top = rng.random() * (width - box_width), rng.random() * (height - box_height)
        return left, top, min(left + box_width, width), min(top + box_height, height)

    @property
    def least_side(self) -> float:
        """The shortest side that a part may have, as a share of the image's shorter side."""
        extreme = max(self.ratio[1], 1 / self.ratio[0], 1.0)
        return min(math.sqrt(self.scale[0] / extreme), 1 / extreme)


@dataclass(frozen=True)
class RandomRotation:
    """Rotates about the centre by an angle uniform in -degrees..degrees; bilinear. Draws once.

    Attributes:
        degrees: the greatest angle.
        fill: level, 0 to 255, of what comes into view.
    """

    degrees: float
    fill: int = 0

    def __call__(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        """Return the rotated image."""
        angle = uniform(rng, -self.degrees, self.degrees)
        return image.rotate(angle, _BILINEAR, fillcolor=filled_with(image, self.fill))


@dataclass(frozen=True)
class RandomAffine:
    """Shears, rotates and scales about the centre and then translates, in one bilinear resampling. Draws five times.

    Each amount is uniform between its bounds; they are drawn in the order in which they stand below.

    Attributes:
        degrees: greatest angle of rotation.
        translate: greatest shift as a share of the width and of the height.
        scale: least and greatest factor.
        shear: greatest angle, in degrees, of a shear along the horizontal axis.
        fill: level, 0 to 255, of what comes into view.

    Raises:
        ConfigError: the bounds allow no change at all, or are out of order.
    """

    degrees: float = 0.0
    translate: tuple[float, float] = (0.0, 0.0)
    scale: Interval = (1.0, 1.0)
    shear: float = 0.0
    fill: int = 0

    def __post_init__(self) -> None:
        check_interval(self.scale, f"{_WHERE}.random_affine.scale")
        if not (self.degrees or any(self.translate) or self.shear) and self.scale == (1.0, 1.0):
            raise ConfigError(
                "changes nothing",
                where=f"{_WHERE}.random_affine",
                fix="Give degrees, translate, scale or shear, or leave it out.",
            )

    def __call__(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        """Return the changed image."""
        width, height = image.size
        angle = uniform(rng, -self.degrees, self.degrees)
        right, down = (
            side * uniform(rng, -share, share) for side, share in zip(image.size, self.translate, strict=True)
        )
        factor = uniform(rng, *self.scale)
        slope = math.tan(math.radians(uniform(rng, -self.shear, self.shear)))

        # Pillow wants the way back, from a place in the output to one in the input: shift, rotation, shear undone.
        cosine, sine = math.cos(math.radians(angle)) / factor, -math.sin(math.radians(angle)) / factor
        a, b = cosine + slope * sine, sine - slope * cosine
        d, e = -sine, cosine
        x, y = width / 2 + right, height / 2 + down
        back = (a, b, width / 2 - a * x - b * y, d, e, height / 2 - d * x - e * y)
        colour = filled_with(image, self.fill)
        return image.transform(image.size, Image.Transform.AFFINE, back, _BILINEAR, fillcolor=colour)
