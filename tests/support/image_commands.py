"""Folders of tiny images, and the commands of mltrain on them: `data` lies in the folder that a command runs in."""

from __future__ import annotations

import subprocess
from pathlib import Path

from images import paint_classes
from warm_process import run_warm

__all__ = ["CLASSES", "CONFIG", "divided_images", "everything", "ml_split", "ml_train", "raw_images", "write_table"]

CLASSES = ("ants", "bees")
CONFIG = """task: image_classification
data: {data_dir: data, image_size: 8, num_workers: 0, transforms: {resize: stretch}}
model: {architecture: tiny_net}
training: {num_epochs: 1, batch_size: 8}
tracking: {mlflow: {enabled: false}}
reproducibility: {num_threads: 1}
"""


def raw_images(folder: Path, count: int = 6) -> Path:
    """Write `count` images of 8 x 8 a class into folder/data/raw, which is returned."""
    paint_classes(folder / "data", CLASSES, count, (8, 8))
    return folder / "data" / "raw"


def divided_images(folder: Path) -> Path:
    """Write images that are divided, 4 and 2 a class, into folder/data, which is returned."""
    raw = raw_images(folder)
    for name in CLASSES:
        (raw.parent / "val" / name).mkdir(parents=True)
        for path in sorted((raw / name).iterdir())[4:]:
            path.rename(raw.parent / "val" / name / path.name)
    raw.rename(raw.parent / "train")
    return raw.parent


def write_table(folder: Path, header: str, *rows: str) -> None:
    """Write folder/data/labels.csv."""
    (folder / "data" / "labels.csv").write_text("".join(f"{line}\n" for line in (header, *rows)), encoding="utf-8")


def ml_split(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ml-split` in a folder."""
    return run_warm(["ml-split", *arguments], folder)


def ml_train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ml-train` for one epoch in a folder, on its `data`."""
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return run_warm(["ml-train", "--config", "config.yaml", *arguments], folder)


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return the content of every file below folder/data, by path; None for what is no file."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in (folder / "data").rglob("*")}
