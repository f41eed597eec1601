"""Images to augment, and generators whose draws are known or counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from mltrain.core.seeding import SampleGenerator


class Scripted(SampleGenerator):
    """Gives the numbers in [0, 1) that it was told to, in whatever form they are asked for."""

    def __init__(self, *draws: float) -> None:
        super().__init__(0)
        self._script = iter(draws)

    def random(self) -> float:
        return next(self._script)

    def below(self, limit: int) -> int:
        return int(next(self._script) * limit)

    def bits(self) -> int:
        return int(next(self._script) * 2**64)

    @property
    def left(self) -> int:
        """How many numbers were not asked for."""
        return len(list(self._script))


class Counted(SampleGenerator):
    """Counts its draws."""

    count = 0

    def bits(self) -> int:
        self.count += 1
        return super().bits()


# Any text with this before it is the content of an image, of one pixel.
PIXEL = "P5 1 1 255\n0"


def noise(width: int, height: int, mode: str = "RGB", seed: int = 3) -> Image.Image:
    """Return random pixels."""
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def waves(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Return pixels that rise and fall slowly, the same on every machine."""
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    pixels = (20 + np.abs((7 * x + (5 + 9 * channel) * y + 130 * channel) % 400 - 200)).astype(np.uint8)
    return Image.fromarray(pixels if mode == "RGB" else np.ascontiguousarray(pixels[..., 0]))


def digest(images: Iterable[Image.Image]) -> str:
    """Return the sha256 of the images' pixels."""
    return hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()


def paint_classes(folder: Path, classes: Iterable[str], count: int, size: tuple[int, int] = (12, 10)) -> None:
    """Write `count` noisy images a class into folder/raw/CLASS, in each of which another channel is the brightest."""
    for label, name in enumerate(classes):
        for number in range(count):
            pixels = np.random.default_rng(100 * label + number).integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
            pixels[:, :, 2 - label] += 120
            path = folder / "raw" / name / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
