"""The sections `data` and `model` of image tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mltrain.config.section import DataSection, ModelSection, Section
from mltrain.models.lora import LoraSection
from mltrain.tasks.augmentation_sections import TrainTransformSection

__all__ = ["ImageDataSection", "ImageModelSection", "NormalizeSection", "TransformSection"]


class NormalizeSection(Section):
    """Normalization by given numbers, on the scale where white is 1."""

    mean: list[float] = Field(description="One number a channel.")
    std: list[float] = Field(description="One number a channel.")


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
    """Images in class folders or named by a table."""

    table: str | None = Field(None, description="CSV or TSV file of paths and labels, relative to `data_dir`.")
    path_column: str = Field("path", description="Column of the table: image files, relative to `data_dir`.")
    label_column: str = Field("label", description="Column of the table: classes, taken as texts.")
    split_column: str | None = Field(
        None, description="Column of the table that says train, val or test. Default: the split files divide it."
    )
    on_corrupt: Literal["stop", "skip"] = Field(
        "stop", description="Images that cannot be decoded. stop: an error that lists them; skip: they are left out."
    )
    image_size: int = Field(224, ge=1, le=4096, description="Side of the square that the model sees, in pixels.")
    image_mode: Literal["RGB", "L"] = Field("RGB", description="RGB: three channels; L: one, grey.")
    transforms: TransformSection = TransformSection()


class ImageModelSection(ModelSection):
    """An image classifier."""

    num_classes: Literal["auto"] | int = Field("auto", description="Size of the output. auto: from the data.")
    weights: str | None = Field(
        None,
        min_length=1,
        description="Initial weights: null (from the seed), DEFAULT (published), or a folder or .safetensors file.",
    )
    freeze: Literal["backbone"] | list[str] | None = Field(
        None,
        description="What is not trained: backbone (all but the head), or patterns of parameter names, of which `!` "
        "takes names out again.",
    )
    lora: LoraSection | None = Field(None, description="Train narrow products beside the weights, and the head.")
