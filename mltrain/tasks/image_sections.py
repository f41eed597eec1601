"""The sections `data` and `model` of image tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mltrain.config.section import DataSection, ModelSection, Section

__all__ = ["ImageDataSection", "ImageModelSection", "NormalizeSection", "TrainTransformSection", "TransformSection"]


class NormalizeSection(Section):
    """Normalization by given numbers, on the scale where white is 1."""

    mean: list[float] = Field(description="One number a channel.")
    std: list[float] = Field(description="One number a channel.")


class TrainTransformSection(Section):
    """Augmentation of the training split."""

    random_crop: bool = Field(False, description="Crop at a random position instead of the centre.")
    random_horizontal_flip: bool = Field(False, description="Mirror left and right, half of the time.")
    random_vertical_flip: bool = Field(False, description="Mirror top and bottom, half of the time.")


class TransformSection(Section):
    """From a decoded image to pixels."""

    resize: Literal["crop", "stretch"] = Field(
        "crop", description="crop: keep the aspect ratio and cut a square; stretch: make the whole image a square."
    )
    crop_ratio: float = Field(0.875, gt=0.0, le=1.0, description="Side of the square as a share of the shorter side.")
    train: TrainTransformSection = TrainTransformSection()
    normalize: Literal["imagenet", "half", "none"] | NormalizeSection = Field(
        "imagenet", description="imagenet, half (to -1..1), none (to 0..1), or mean and std."
    )


class ImageDataSection(DataSection):
    """Images in class folders."""

    image_size: int = Field(224, ge=1, description="Side of the square that the model sees, in pixels.")
    image_mode: Literal["RGB", "L"] = Field("RGB", description="RGB: three channels; L: one, grey.")
    transforms: TransformSection = TransformSection()


class ImageModelSection(ModelSection):
    """An image classifier."""

    num_classes: Literal["auto"] | int = Field("auto", description="Size of the output. auto: from the data.")
