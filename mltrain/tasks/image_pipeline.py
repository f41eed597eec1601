"""What stands between an image file and a model's input: the same in training, in evaluation and in a packed model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mltrain.core.errors import ConfigError
from mltrain.data.image_transforms import ImageTransform
from mltrain.data.normalization import Normalization
from mltrain.tasks.image_sections import ImageDataSection

__all__ = ["ImagePipeline"]


@dataclass(frozen=True)
class ImagePipeline:
    """A transform and a normalization.

    Attributes:
        transform: image -> uint8 pixels (C, H, W).
        normalization: uint8 pixels -> float32, on the device.
    """

    transform: ImageTransform
    normalization: Normalization

    @classmethod
    def from_section(cls, section: ImageDataSection) -> ImagePipeline:
        """Return the pipeline that a configuration describes; raises ConfigError where it cannot be."""
        transforms = section.transforms
        transform = ImageTransform(
            image_size=section.image_size,
            mode=section.image_mode,
            resize=transforms.resize,
            crop_ratio=transforms.crop_ratio,
            **transforms.train.model_dump(),
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
        return cls(transform, normalization)

    @property
    def channels(self) -> int:
        """Channels of the pixels."""
        return 3 if self.transform.mode == "RGB" else 1

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` takes."""
        return {"transform": asdict(self.transform), "normalization": self.normalization.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImagePipeline:
        """Return what `to_json` described."""
        return cls(ImageTransform(**value["transform"]), Normalization.from_json(value["normalization"]))
