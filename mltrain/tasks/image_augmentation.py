"""From the section `data.transforms.train` to the augmentations that it describes."""

from __future__ import annotations

from dataclasses import replace

from mltrain.core.errors import ConfigError
from mltrain.data.augmentation import Augmentation
from mltrain.data.automatic_augmentation import RandAugment, TrivialAugment
from mltrain.data.color_augmentations import ColorJitter
from mltrain.data.geometric_augmentations import RandomAffine, RandomResizedCrop, RandomRotation
from mltrain.data.image_transforms import ImageTransform
from mltrain.data.mixing import Mixing
from mltrain.data.normalization import Normalization
from mltrain.data.random_erasing import RandomErasing
from mltrain.tasks.augmentation_sections import RandomErasingSection, TrainTransformSection

__all__ = ["augmented", "mixing"]

_WHERE = "data.transforms.train"
_EITHER_OR = (
    ("random_crop", "random_resized_crop"),
    ("trivial_augment", "rand_augment"),
    ("random_rotation", "random_affine"),
)


def augmented(
    transform: ImageTransform, section: TrainTransformSection, normalization: Normalization
) -> ImageTransform:
    """Return a transform that also augments.

    Raises:
        ConfigError: two augmentations exclude each other, one changes nothing, or one is not for grey images.
    """
    for one, other in _EITHER_OR:
        if getattr(section, one) and getattr(section, other):
            raise ConfigError(f"stands beside {other}", where=f"{_WHERE}.{one}", fix="Keep one of them.")
    jitter = section.color_jitter
    if transform.mode == "L" and jitter is not None and (jitter.saturation or jitter.hue):
        raise ConfigError(
            "saturation and hue mean nothing for grey images", where=f"{_WHERE}.color_jitter", fix="Leave them out."
        )
    crop = section.random_resized_crop
    return replace(
        transform,
        random_crop=section.random_crop,
        random_horizontal_flip=section.random_horizontal_flip,
        random_vertical_flip=section.random_vertical_flip,
        random_resized_crop=RandomResizedCrop(_pair(crop.scale), _pair(crop.ratio)) if crop is not None else None,
        augmentations=tuple(_augmentations(section)),
        random_erasing=_erasing(section.random_erasing, normalization),
    )


def mixing(section: TrainTransformSection, image_size: int) -> Mixing | None:
    """Return how neighbours are mixed; None: they are not."""
    if section.mixup is None and section.cutmix is None:
        return None
    return Mixing(
        image_size,
        mixup_alpha=section.mixup.alpha if section.mixup is not None else None,
        cutmix_alpha=section.cutmix.alpha if section.cutmix is not None else None,
    )


def _augmentations(section: TrainTransformSection) -> list[Augmentation]:
    found: list[Augmentation] = []
    if section.trivial_augment:
        found.append(TrivialAugment())
    if section.rand_augment is not None:
        found.append(RandAugment(**section.rand_augment.model_dump()))
    if section.color_jitter is not None:
        found.append(ColorJitter(**section.color_jitter.model_dump()))
    if section.random_rotation is not None:
        found.append(RandomRotation(**section.random_rotation.model_dump()))
    if (affine := section.random_affine) is not None:
        found.append(
            RandomAffine(affine.degrees, _pair(affine.translate), _pair(affine.scale), affine.shear, affine.fill)
        )
    return found


def _erasing(section: RandomErasingSection | None, normalization: Normalization) -> RandomErasing | None:
    if section is None:
        return None
    fill: tuple[int, ...] | None = None
    if section.fill == "mean":
        fill = tuple(round(255 * min(max(mean, 0.0), 1.0)) for mean in normalization.mean)
    elif isinstance(section.fill, int):
        fill = (section.fill,) * len(normalization.mean)
    return RandomErasing(section.probability, _pair(section.scale), _pair(section.ratio), fill)


def _pair(values: list[float]) -> tuple[float, float]:
    first, second = values
    return first, second
