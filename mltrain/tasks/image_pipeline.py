"""What stands between an image file and a model's input: the same in training, in evaluation and in a packed model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mltrain.core.errors import ConfigError
from mltrain.data.image_transforms import ImageTransform
from mltrain.data.mixing import Mixing
from mltrain.data.normalization import Normalization
from mltrain.tasks.image_augmentation import augmented, mixing
from mltrain.tasks.image_sections import ImageDataSection

__all__ = ["ImagePipeline"]

# What evaluation depends on: `random_crop` decides at what size a file may be decoded.
_PACKED = ("image_size", "mode", "resize", "crop_ratio", "random_crop")


@dataclass(frozen=True)
class ImagePipeline:
    """A transform and a normalization, and in training how neighbours are mixed.

    Attributes:
        transform: image -> uint8 pixels (C, H, W).
        normalization: uint8 pixels -> float32, on the device.
        mixing: how training samples are mixed; None: they are not.
    """

    transform: ImageTransform
    normalization: Normalization
    mixing: Mixing | None = None

    @classmethod
    def from_section(cls, section: ImageDataSection) -> ImagePipeline:
        """Return the pipeline that a configuration describes; raises ConfigError where it cannot be."""
        transforms = section.transforms
        transform = ImageTransform(
            image_size=section.image_size,
            mode=section.image_mode,
            resize=transforms.resize,
            crop_ratio=transforms.crop_ratio,
        )
        if isinstance(transforms.normalize, str):
            normalization = Normalization.preset(transforms.normalize, section.image_mode)
        else:
            normalization = Normalization.from_json(transforms.normalize.model_dump())
        channels = 3 if section.image_mode == "RGB" else 1
        if len(normalization.mean) != channels:
            raise ConfigError(
                f"has {len(normalization.mean)} numbers for images of {channels} channels",
                where="data.transforms.normalize",
                fix=f"Give {channels}.",
            )
        train = transforms.train
        return cls(augmented(transform, train, normalization), normalization, mixing(train, section.image_size))

    @property
    def channels(self) -> int:
        """Channels of the pixels."""
        return 3 if self.transform.mode == "RGB" else 1

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` takes: what evaluation needs, without augmentation."""
        transform = {name: getattr(self.transform, name) for name in _PACKED}
        return {"transform": transform, "normalization": self.normalization.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImagePipeline:
        """Return the pipeline that evaluates as the one that `to_json` described."""
        return cls(ImageTransform(**value["transform"]), Normalization.from_json(value["normalization"]))
