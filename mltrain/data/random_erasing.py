"""Random erasing: a rectangle of the final pixels is painted over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mltrain.core.seeding import SampleGenerator
from mltrain.data.augmentation import Interval, check_interval, random_rectangle

__all__ = ["RandomErasing"]

_WHERE = "data.transforms.train.random_erasing"


@dataclass(frozen=True)
class RandomErasing:
    """Zhong et al. 2020, "Random erasing data augmentation", on uint8 pixels.

    Draws six times, whether it erases or not: whether to, the area, the aspect ratio, the place, the random pixels.

    Attributes:
        probability: how often it erases.
        scale: least and greatest share of the image's area.
        ratio: least and greatest width / height of the rectangle.
        fill: a level, 0 to 255, for each channel; None for random pixels.
    """

    probability: float = 0.25
    scale: Interval = (0.02, 0.33)
    ratio: Interval = (0.3, 3.3)
    fill: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_interval(self.scale, f"{_WHERE}.scale")
        check_interval(self.ratio, f"{_WHERE}.ratio")

    def __call__(self, pixels: torch.Tensor, rng: SampleGenerator) -> torch.Tensor:
        """Return the pixels, uint8 (C, H, W); they are changed in place."""
        channels, height, width = pixels.shape
        erases = rng.random() < self.probability
        sides = random_rectangle((width, height), self.scale, self.ratio, rng)
        box_width, box_height = (max(1, round(side)) for side in sides)
        left, top = rng.below(width - box_width + 1), rng.below(height - box_height + 1)
        seed = rng.bits()
        if erases:
            shape = (channels, box_height, box_width)
            pixels[:, top : top + box_height, left : left + box_width] = self._paint(shape, seed)
        return pixels

    def _paint(self, shape: tuple[int, int, int], seed: int) -> torch.Tensor:
        if self.fill is not None:
            return torch.tensor(self.fill, dtype=torch.uint8).view(-1, 1, 1)
        # The raw bits of a bit generator are the same on every version of NumPy; its distributions need not be.
        count = shape[0] * shape[1] * shape[2]
        raw = np.random.PCG64(seed).random_raw(-(-count // 8)).astype("<u8")
        return torch.from_numpy(raw.view(np.uint8)[:count].reshape(shape))
