"""Predicting with a packed image classifier: from files or images to rows of class and probability."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from mltrain.core.errors import DataError
from mltrain.data.image_decoding import convert_image, decode_image
from mltrain.models.registry import logits_of
from mltrain.tasks.image_pipeline import ImagePipeline

__all__ = ["ImagePredictor", "predicted_classes"]

_MOST_AT_ONCE = 256


class ImagePredictor:
    """Predicts the classes of images, given as paths or as images of Pillow.

    Args:
        model: the classifier; predictions are made with whatever weights it holds, on the device it is on.
        pipeline: what the model was trained with.
        classes: names of the classes, in the order of the model's outputs.
    """

    def __init__(self, model: nn.Module, pipeline: ImagePipeline, classes: Sequence[str]) -> None:
        self._model, self._pipeline, self._classes = model, pipeline, list(classes)

    def __call__(self, images: Any) -> list[dict[str, Any]]:
        """Return one row for each image: {"class": name, "probability": share}.

        Args:
            images: a path, an image of Pillow, or a sequence of these. One alone gives a list of one row.

        Raises:
            DataError: something else was given, or a file cannot be decoded.
        """
        alone = isinstance(images, str | PathLike | Image.Image)
        if not alone and not isinstance(images, Sequence):
            raise _wrong_kind(images)
        given = [images] if alone else images
        rows: list[dict[str, Any]] = []
        for start in range(0, len(given), _MOST_AT_ONCE):
            pixels = torch.stack([self._pixels(image) for image in given[start : start + _MOST_AT_ONCE]])
            rows += self._rows(pixels)
        return rows

    def _pixels(self, image: Any) -> torch.Tensor:
        transform = self._pipeline.transform
        return transform(self._decoded(image), None)

    def _decoded(self, image: Any) -> Image.Image:
        transform = self._pipeline.transform
        if isinstance(image, Image.Image):
            return convert_image(image, transform.mode)
        if not isinstance(image, str | PathLike):
            raise _wrong_kind(image)
        path = Path(image)
        try:
            return decode_image(path, transform.mode, min_side=transform.min_side)
        except DataError as error:
            error.fix = "Name an image file that can be read." if path.is_file() else "Check the path."
            raise

    @torch.inference_mode()
    def _rows(self, pixels: torch.Tensor) -> list[dict[str, Any]]:
        device = next(self._model.parameters()).device
        outputs = self._model(self._pipeline.normalization.apply(pixels.to(device)))
        return predicted_classes(logits_of(outputs), self._classes)


def predicted_classes(logits: torch.Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for logits (B, C), one row an example: the most probable class and its probability."""
    probability, index = logits.float().softmax(dim=-1).max(dim=-1)
    rows = zip(index.tolist(), probability.tolist(), strict=True)
    return [{"class": classes[number], "probability": share} for number, share in rows]


def _wrong_kind(given: Any) -> DataError:
    return DataError(
        f"cannot predict from a value of type {type(given).__name__}",
        where="predict",
        fix="Give a path, an image of Pillow (of an array: PIL.Image.fromarray), or a list of them.",
    )
