"""Mixup and cutmix: each image of a batch takes in a part of its partner's.

Partners are neighbours in the plan's order: the first and second sample of a window, the third and fourth, and so on.
How much a sample takes in is drawn by its own generator. So what a window teaches depends neither on how it is cut into
microbatches and processes nor on the number of workers.

Pixels are mixed as uint8 while a batch is collated, in the loader's workers. A mixed image is rounded to whole levels,
which is half a level at most; in return the model, the contact sheet and every device get the same bits, and the loss
of an example stays independent of the other examples of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from mltrain.core.seeding import SampleGenerator

__all__ = ["Blend", "Mix", "Mixing", "Patch", "mix_pairs", "symmetric_beta"]

_LARGEST_EXPONENT = 700.0  # exp overflows from 710 on


class Mix(Protocol):
    """How one image takes in its partner."""

    @property
    def share(self) -> float:
        """The share of the target that stays the image's own: at least one half."""
        ...

    def apply(self, own: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        """Return the mixed pixels of two images, uint8 (C, H, W)."""
        ...


@dataclass(frozen=True)
class Blend:
    """Mixup: share * own + (1 - share) * partner, rounded (Zhang et al. 2018, "mixup: beyond empirical risk
    minimization")."""

    share: float

    def apply(self, own: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        """Return the mixed pixels."""
        mixed = partner.float().lerp_(own.float(), self.share)
        return mixed.add_(0.5).to(torch.uint8)


@dataclass(frozen=True)
class Patch:
    """Cutmix: a rectangle of the partner at its own place (Yun et al. 2019, "CutMix: regularization strategy to train
    strong classifiers with localizable features").

    Attributes:
        box: (left, top, right, bottom) in pixels; may be empty.
        share: the share of the pixels outside of it.
    """

    box: tuple[int, int, int, int]
    share: float

    def apply(self, own: torch.Tensor, partner: torch.Tensor) -> torch.Tensor:
        """Return the mixed pixels."""
        left, top, right, bottom = self.box
        mixed = own.clone()
        mixed[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        return mixed


@dataclass(frozen=True)
class Mixing:
    """Draws how a sample is mixed. With both parameters set, each sample draws one of the two ways evenly.

    A sample's own share is the greater of l and 1 - l, l from Beta(alpha, alpha): its own label always dominates, so
    that accuracy in training keeps a meaning.

    Attributes:
        image_size: side of the images in pixels.
        mixup_alpha, cutmix_alpha: parameter of the Beta distribution; None: not used.
    """

    image_size: int
    mixup_alpha: float | None = None
    cutmix_alpha: float | None = None

    def draw(self, rng: SampleGenerator) -> Mix:
        """Return how a sample is mixed. Draws once for the way if there are two, twice for a place, twice for l."""
        cuts = self.mixup_alpha is None or (self.cutmix_alpha is not None and rng.random() < 0.5)
        x, y = (rng.random(), rng.random()) if self.cutmix_alpha is not None else (0.0, 0.0)
        alpha = self.cutmix_alpha if cuts else self.mixup_alpha
        assert alpha is not None
        beta = symmetric_beta(alpha, rng)
        share = max(beta, 1 - beta)
        return self._patch(share, x, y) if cuts else Blend(share)

    def _patch(self, share: float, x: float, y: float) -> Patch:
        """Return a square of 1 - share of the image about a centre uniform in it, as far as it lies within."""
        size = self.image_size
        side = int(size * math.sqrt(1 - share))
        left, top = int(x * size) - side // 2, int(y * size) - side // 2
        box = (max(left, 0), max(top, 0), min(left + side, size), min(top + side, size))
        return Patch(box, 1 - (box[2] - box[0]) * (box[3] - box[1]) / size**2)


def symmetric_beta(alpha: float, rng: SampleGenerator) -> float:
    """Return a number from Beta(alpha, alpha), for any alpha above 0. Draws twice.

    Student's t with 2 * alpha degrees of freedom, by the polar way of Bailey 1994, "Polar generation of random variates
    with the t-distribution", mapped to the Beta distribution; Devroye 1996, "Random variate generation in one line of
    code".
    """
    exponent = -math.log(1 - rng.random()) / alpha
    radius = math.sqrt(math.expm1(min(exponent, _LARGEST_EXPONENT)))
    deviate = radius * math.cos(2 * math.pi * rng.random())
    return 0.5 + 0.5 * deviate / math.hypot(1.0, deviate)


def mix_pairs(pixels: torch.Tensor, mixes: Sequence[Mix]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix the images of a batch with their partners: 0 with 1, 2 with 3, and so on; a last one alone stays as it is.

    Args:
        pixels: uint8 (B, C, H, W).
        mixes: one for each image.

    Returns:
        Mixed pixels (B, C, H, W), the place of each image's partner in the batch, int64 (B,), and the share of the
        target that is its own, float32 (B,).
    """
    count = len(mixes)
    partners = [index ^ 1 if (index ^ 1) < count else index for index in range(count)]
    alone = count - 1 if count % 2 else None
    mixed = [
        pixels[index] if index == alone else mix.apply(pixels[index], pixels[partners[index]])
        for index, mix in enumerate(mixes)
    ]
    shares = [1.0 if index == alone else mix.share for index, mix in enumerate(mixes)]
    return torch.stack(mixed), torch.tensor(partners), torch.tensor(shares)
