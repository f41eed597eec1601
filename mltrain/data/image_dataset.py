"""Images of known class as a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mltrain.core.seeding import SampleGenerator
from mltrain.data.image_decoding import decode_content
from mltrain.data.image_transforms import ImageTransform
from mltrain.data.mixing import Mix, Mixing
from mltrain.data.recorded_files import RecordedFiles

__all__ = ["ImageDataset", "ImageItem"]

ImageItem = tuple[torch.Tensor, int] | tuple[torch.Tensor, int, Mix]


class ImageDataset:
    """Decodes and transforms an image each time it is asked for.

    Args:
        files: the image files; their paths are the samples' IDs.
        labels: class index of each image.
        transform: image and generator -> uint8 pixels (C, H, W).
        mixing: how samples of the training split are mixed with their neighbours; None: they are not.
    """

    def __init__(
        self,
        files: RecordedFiles,
        labels: Sequence[int],
        transform: ImageTransform,
        mixing: Mixing | None = None,
    ) -> None:
        self._files, self._labels = files, list(labels)
        self._transform, self._mixing = transform, mixing

    def __len__(self) -> int:
        return len(self._labels)

    def sample_id(self, index: int) -> str:
        """Return the image's path, relative to the data folder."""
        return self._files.paths[index]

    def load(self, index: int, generator: SampleGenerator | None) -> ImageItem:
        """Return pixels, uint8 (C, H, W), the class index and, in training with mixing, how the sample is mixed."""
        transform, label = self._transform, self._labels[index]
        min_side = transform.min_side if generator is None else transform.training_min_side
        files = self._files
        image = decode_content(files.read(index), files.file(index), transform.mode, min_side=min_side)
        pixels = transform(image, generator)
        if generator is None or self._mixing is None:
            return pixels, label
        return pixels, label, self._mixing.draw(generator)
