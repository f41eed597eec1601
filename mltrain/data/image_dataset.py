"""Images of known class as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mltrain.core.seeding import SampleGenerator
from mltrain.data.image_decoding import decode_image
from mltrain.data.image_transforms import ImageTransform

__all__ = ["ImageDataset"]


class ImageDataset:
    """Decodes and transforms an image each time it is asked for.

    Args:
        root: the data folder.
        paths: image files, relative to `root`; they are the samples' IDs.
        labels: class index of each image.
        transform: image and generator -> uint8 pixels (C, H, W).
    """

    def __init__(self, root: Path, paths: Sequence[str], labels: Sequence[int], transform: ImageTransform) -> None:
        self._root, self._paths, self._labels, self._transform = root, list(paths), list(labels), transform

    def __len__(self) -> int:
        return len(self._paths)

    def sample_id(self, index: int) -> str:
        """Return the image's path, relative to the data folder."""
        return self._paths[index]

    def load(self, index: int, generator: SampleGenerator | None) -> tuple[torch.Tensor, int]:
        """Return pixels, uint8 (C, H, W), and the class index."""
        image = decode_image(self._root / self._paths[index], self._transform.mode, min_side=self._transform.min_side)
        return self._transform(image, generator), self._labels[index]
