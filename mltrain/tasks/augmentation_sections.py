"""The section `data.transforms.train` of image tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mltrain.config.section import Section

__all__ = [
    "ColorJitterSection",
    "CutmixSection",
    "MixupSection",
    "RandAugmentSection",
    "RandomAffineSection",
    "RandomErasingSection",
    "RandomResizedCropSection",
    "RandomRotationSection",
    "TrainTransformSection",
]

_Shares = Annotated[list[Annotated[float, Field(gt=0.0, le=1.0)]], Field(min_length=2, max_length=2)]
_Factors = Annotated[list[Annotated[float, Field(gt=0.0)]], Field(min_length=2, max_length=2)]
_Shifts = Annotated[list[Annotated[float, Field(ge=0.0, le=1.0)]], Field(min_length=2, max_length=2)]
_Level = Annotated[int, Field(ge=0, le=255)]
_Degrees = Annotated[float, Field(ge=0.0, le=180.0)]
_FILL = "Level, 0 to 255, of what comes into view."


class RandomResizedCropSection(Section):
    """Resample a part of random area and shape. In place of random_crop."""

    scale: _Shares = Field([0.08, 1.0], description="Least and greatest share of the image's area.")
    ratio: _Factors = Field([0.75, 1.3333], description="Least and greatest width / height of the part.")


class RandomRotationSection(Section):
    """Rotate about the centre."""

    degrees: _Degrees = Field(description="The greatest angle, in either direction.")
    fill: _Level = Field(0, description=_FILL)


class RandomAffineSection(Section):
    """Shear, rotate, scale and translate at once. In place of random_rotation."""

    degrees: _Degrees = Field(0.0, description="The greatest angle of rotation, in either direction.")
    translate: _Shifts = Field([0.0, 0.0], description="Greatest shift as a share of the width and of the height.")
    scale: _Factors = Field([1.0, 1.0], description="Least and greatest factor.")
    shear: float = Field(0.0, ge=0.0, lt=90.0, description="Greatest angle of a horizontal shear, in degrees.")
    fill: _Level = Field(0, description=_FILL)


class ColorJitterSection(Section):
    """Change colours. Each factor is uniform in 1 - amount..1 + amount; the order is random."""

    brightness: float = Field(0.0, ge=0.0, description="Amount for brightness.")
    contrast: float = Field(0.0, ge=0.0, description="Amount for contrast.")
    saturation: float = Field(0.0, ge=0.0, description="Amount for saturation.")
    hue: float = Field(0.0, ge=0.0, le=0.5, description="Greatest shift as a share of the colour circle.")


class RandAugmentSection(Section):
    """RandAugment: several operations at one strength. In place of trivial_augment."""

    num_ops: int = Field(2, ge=1, le=14, description="Operations, one after the other.")
    magnitude: int = Field(9, ge=0, le=30, description="Strength of each; 30 is the strongest.")
    fill: _Level = Field(0, description=_FILL)


class RandomErasingSection(Section):
    """Paint over a rectangle of the final pixels."""

    probability: float = Field(0.25, ge=0.0, le=1.0, description="How often.")
    scale: _Shares = Field([0.02, 0.33], description="Least and greatest share of the image's area.")
    ratio: _Factors = Field([0.3, 3.3], description="Least and greatest width / height.")
    fill: Literal["mean", "random"] | _Level = Field(
        "mean", description="mean: the mean of the normalization; random: random pixels; or a level, 0 to 255."
    )


class MixupSection(Section):
    """Blend each image, and its label, with its neighbour's."""

    alpha: float = Field(0.2, gt=0.0, description="Parameter of the Beta distribution of the shares.")


class CutmixSection(Section):
    """Put a rectangle of its neighbour into each image, and its label in proportion. Beside mixup: one or the other."""

    alpha: float = Field(1.0, gt=0.0, description="Parameter of the Beta distribution of the shares.")


class TrainTransformSection(Section):
    """Augmentation of the training split, in the order in which it is applied."""

    random_crop: bool = Field(False, description="Crop at a random position instead of the centre.")
    random_resized_crop: RandomResizedCropSection | None = Field(None, description="Resample a random part.")
    random_horizontal_flip: bool = Field(False, description="Mirror left and right, half of the time.")
    random_vertical_flip: bool = Field(False, description="Mirror top and bottom, half of the time.")
    trivial_augment: bool = Field(False, description="One operation of TrivialAugment (wide), at random strength.")
    rand_augment: RandAugmentSection | None = Field(None, description="RandAugment.")
    color_jitter: ColorJitterSection | None = Field(None, description="Change brightness, contrast, saturation, hue.")
    random_rotation: RandomRotationSection | None = Field(None, description="Rotate.")
    random_affine: RandomAffineSection | None = Field(None, description="Rotate, translate, scale and shear at once.")
    random_erasing: RandomErasingSection | None = Field(None, description="Paint over a rectangle.")
    mixup: MixupSection | None = Field(None, description="Blend neighbours. Needs an even training.batch_size.")
    cutmix: CutmixSection | None = Field(None, description="Patch neighbours. Needs an even training.batch_size.")
