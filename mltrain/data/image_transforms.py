"""From a decoded image to a tensor of fixed size: which part of it, resampled once, perhaps mirrored and augmented.

The steps draw from the sample's generator in the order in which they are applied, and each always draws the same number
of times. So for a given configuration a draw means the same for every image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from mltrain.core.errors import ConfigError
from mltrain.core.seeding import SampleGenerator
from mltrain.data.augmentation import Augmentation
from mltrain.data.geometric_augmentations import RandomResizedCrop
from mltrain.data.image_decoding import ImageMode
from mltrain.data.random_erasing import RandomErasing

__all__ = ["Box", "ImageTransform", "Resize", "to_image"]

Resize = Literal["crop", "stretch"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageTransform:
    """Makes a (C, image_size, image_size) tensor from an image of any size.

    "crop" keeps the aspect ratio: what comes out is that of resizing the shorter side to image_size / crop_ratio and
    cutting a square of image_size from the result, at the centre or, with `random_crop` in training, anywhere with
    equal probability. "stretch" resizes the whole image to the square; with `random_crop` in training, a window of
    crop_ratio of its width and of its height, anywhere with equal probability. Either way the part is chosen first,
    in fractions of source pixels, and resampled once, bilinearly with antialiasing.

    In training `random_resized_crop` chooses the part instead. The steps are: choose the part, resample it, mirror it,
    apply the augmentations one after the other, make a tensor, erase from it.

    Attributes:
        image_size: side of the output in pixels.
        mode: the mode that images come in: "RGB" (C = 3) or "L" (C = 1).
        resize: how the aspect ratio is dealt with.
        crop_ratio: side of the crop as a share of the image's, in (0, 1].
        random_crop: in training, crop at a random position.
        random_horizontal_flip, random_vertical_flip: in training, mirror with probability 1/2.
        random_resized_crop: in training, resample a part of random area and shape.
        augmentations: in training, change the resampled image.
        random_erasing: in training, paint over a part of the tensor.

    Raises:
        ConfigError: a size or ratio is out of range.
    """

    image_size: int
    mode: ImageMode = "RGB"
    resize: Resize = "crop"
    crop_ratio: float = 0.875
    random_crop: bool = False
    random_horizontal_flip: bool = False
    random_vertical_flip: bool = False
    random_resized_crop: RandomResizedCrop | None = None
    augmentations: tuple[Augmentation, ...] = ()
    random_erasing: RandomErasing | None = None

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"{self.image_size} is not a size", where="data.image_size", fix="Use 1 or more.")
        if not 0 < self.crop_ratio <= 1:
            raise ConfigError(
                f"{self.crop_ratio} is not a share",
                where="data.transforms.crop_ratio",
                fix="Use more than 0, at most 1.",
            )

    @property
    def min_side(self) -> int:
        """What `decode_image` may reduce the shorter side to, in pixels, without it being enlarged again here."""
        cropped = self.resize == "crop" or self.random_crop
        return math.ceil(self.image_size / self.crop_ratio) if cropped else self.image_size

    @property
    def training_min_side(self) -> int:
        """The same for an image that is going to be augmented."""
        if self.random_resized_crop is None:
            return self.min_side
        return math.ceil(self.image_size / self.random_resized_crop.least_side)

    def __call__(self, image: Image.Image, rng: SampleGenerator | None) -> torch.Tensor:
        """Return the image as a contiguous uint8 tensor (C, image_size, image_size).

        Args:
            image: an image of mode `mode`.
            rng: the sample's own generator; None for evaluation: the centre, as it is.

        Raises:
            ValueError: the image is of another mode.
        """
        if image.mode != self.mode:
            raise ValueError(f"an image of mode {image.mode} where {self.mode} was agreed")
        box = self.source_box(image.size, rng)
        image = image.resize((self.image_size, self.image_size), Image.Resampling.BILINEAR, box=box)
        return _to_tensor(image) if rng is None else self._augmented(image, rng)

    def source_box(self, size: tuple[int, int], rng: SampleGenerator | None) -> Box:
        """Return the part of an image that is resampled: (left, top, right, bottom) in its pixels.

        Args:
            size: width and height of the image.
            rng: as in a call; draws twice if `random_crop` is set: the horizontal position, then the vertical one.
                `random_resized_crop` draws area and shape before them.
        """
        if rng is not None and self.random_resized_crop is not None:
            return self.random_resized_crop.box(size, rng)
        width, height = size
        moving = rng if self.random_crop else None
        x, y = (moving.random(), moving.random()) if moving else (0.5, 0.5)
        if self.resize == "crop":
            box_width = box_height = self.crop_ratio * min(size)
        else:
            share = self.crop_ratio if moving else 1.0
            box_width, box_height = share * width, share * height
        left, top = x * (width - box_width), y * (height - box_height)
        return left, top, min(left + box_width, width), min(top + box_height, height)

    def _augmented(self, image: Image.Image, rng: SampleGenerator) -> torch.Tensor:
        image = self._mirror(image, rng)
        for augmentation in self.augmentations:
            image = augmentation(image, rng)
        pixels = _to_tensor(image)
        return pixels if self.random_erasing is None else self.random_erasing(pixels, rng)

    def _mirror(self, image: Image.Image, rng: SampleGenerator) -> Image.Image:
        if self.random_horizontal_flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.random_vertical_flip and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return image


def _to_tensor(image: Image.Image) -> torch.Tensor:
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def to_image(pixels: torch.Tensor) -> Image.Image:
    """Return uint8 pixels (C, H, W), C = 1 or 3, as an image."""
    array = pixels.cpu().numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
