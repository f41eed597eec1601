"""Images a second from JPEG files to optimizer steps: mltrain, and a plain loop that decodes with Pillow."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from mltrain import split_folder, train
from mltrain.callbacks.base import Callback, register_callback
from mltrain.models.small_networks import TinyNet

IMAGE_SIZE = 64
BATCH_SIZE = 16
_RESIZED = round(IMAGE_SIZE / 0.875)
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
_WARM_UP_STEPS = 5
_CLASSES = ("ants", "bees")

_stamps: list[float] = []


def make_folder(source: Path | None, folder: Path, size: int) -> None:
    """Fill `folder`/raw with at least `size` JPEG files of two classes, and write one split: nearly all is training.

    Args:
        source: class folders of JPEG files, repeated as often as needed. None: draw images.
    """
    for label in _CLASSES:
        target = folder / "raw" / label
        target.mkdir(parents=True)
        files = sorted((source / label).glob("*.jpg")) if source is not None else []
        for number in range(size // len(_CLASSES)):
            path = target / f"{number:05}.jpg"
            if files:
                # Bytes behind the end of the image keep the repeated files from being recognised as copies.
                path.write_bytes(files[number % len(files)].read_bytes() + number.to_bytes(4, "little"))
            else:
                _draw(number, path)
    split_folder(folder / "raw", folds=1, ratio=(0.98, 0.01, 0.01))


def ours(folder: Path, workers: int) -> float:
    """Return mltrain's images a second."""
    _stamps.clear()
    train(
        {
            "task": "image_classification",
            "data": {
                "data_dir": str(folder),
                "num_workers": workers,
                "image_size": IMAGE_SIZE,
                "transforms": {"train": {"random_crop": True, "random_horizontal_flip": True}},
            },
            "model": {"architecture": "tiny_net"},
            "training": {"num_epochs": 1, "batch_size": BATCH_SIZE, "device": "cpu"},
            "scheduler": {"name": "none"},
            "tracking": {"mlflow": {"enabled": False}},
            "reproducibility": {"num_threads": 1},
            "callbacks": {"benchmark_stamp": {}},
        }
    )
    return _speed()


def plain(folder: Path, workers: int) -> float:
    """Return the plain loop's images a second."""
    _stamps.clear()
    torch.set_num_threads(1)
    files = _Files(folder)
    loader = DataLoader(files, BATCH_SIZE, shuffle=True, num_workers=workers)
    model = TinyNet(len(_CLASSES), 3, IMAGE_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for pixels, labels in loader:
        F.cross_entropy(model(pixels), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        _stamps.append(time.perf_counter())
    return _speed()


@register_callback("benchmark_stamp")
class Stamp(Callback):
    def on_step_end(self, loop: Any) -> None:
        _stamps.append(time.perf_counter())


class _Files(Dataset[tuple[torch.Tensor, int]]):
    """The training files with the same augmentation, written as in a tutorial."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "splits" / "fold_0_train.txt").read_text().splitlines()
        self._paths = [folder / line for line in lines if line and not line.startswith("#")]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path = self._paths[index]
        image = Image.open(path).convert("RGB")
        scale = _RESIZED / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = random.randint(0, image.width - IMAGE_SIZE), random.randint(0, image.height - IMAGE_SIZE)
        image = image.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - _MEAN[:, None, None]) / _STD[:, None, None], _CLASSES.index(path.parent.name)


def _draw(number: int, path: Path) -> None:
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((512, 384), Image.Resampling.BICUBIC).save(path, quality=90)


def _speed() -> float:
    # The last window may be short; neither it nor the warm-up is counted.
    steps = len(_stamps) - 1 - _WARM_UP_STEPS
    return BATCH_SIZE * steps / (_stamps[-2] - _stamps[_WARM_UP_STEPS - 1])
