"""Faults of image files that are not, or do not stay, what they were taken for."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pytest
from faults import check
from image_commands import divided_images, everything, ml_split, ml_train, raw_images
from images import noise

from mltrain.core.files import read_json

WEB_PAGE = b"<html><head><title>404</title></head></html>"

# Meddles with an image when the first epoch is over.
PLUGIN = """
import os
import shutil
from pathlib import Path

from mltrain.callbacks.base import Callback, register_callback


@register_callback("meddle")
class Meddle(Callback):
    def __init__(self, image, how):
        self.image, self.how = Path(image), how

    def on_epoch_end(self, loop, epoch, values):
        if epoch > 0:
            return
        status = self.image.stat()
        shutil.copy(self.image, "kept.png")
        if self.how == "deleted":
            self.image.unlink()
        if self.how == "changed":
            content = bytearray(self.image.read_bytes())
            content[-20] ^= 1
            self.image.write_bytes(content)
            os.utime(self.image, ns=(status.st_atime_ns, status.st_mtime_ns))
        if self.how == "touched":
            os.utime(self.image)
"""


def truncated(path: Path) -> Path:
    """Write a JPEG file that lacks its end."""
    whole = io.BytesIO()
    noise(64, 64).save(whole, "JPEG")
    path.write_bytes(whole.getvalue()[:-100])
    return path


def unprocessed(shown: str) -> str:
    """Return the number that Pillow gives of a truncated file."""
    found = re.search(r"\((\d+) bytes not processed\)", shown)
    assert found is not None, shown
    return found[1]


def test_fault_01_a_truncated_jpeg_is_not_split(tmp_path: Path) -> None:
    image = truncated(raw_images(tmp_path) / "ants" / "06.jpg")
    result = ml_split(tmp_path, "--raw_data", "data/raw", "--folds", "2")
    check(1, result, "split", image=image, bytes=unprocessed(result.stderr))
    assert not (tmp_path / "data" / "splits").exists()
    check(1, ml_split(tmp_path, "--raw_data", "data/raw", "--folds", "2", "--on_corrupt", "skip"), "split skip")
    lists = [path.read_text() for path in (tmp_path / "data" / "splits").iterdir()]
    assert len(lists) == 6
    assert not any("06.jpg" in text for text in lists)


def test_fault_01_a_truncated_jpeg_is_not_learned_from(tmp_path: Path) -> None:
    truncated(divided_images(tmp_path) / "train" / "ants" / "06.jpg")
    before = everything(tmp_path)
    result = ml_train(tmp_path)
    check(1, result, "train", image="data/train/ants/06.jpg", bytes=unprocessed(result.stderr))
    assert not (tmp_path / "runs").exists()
    result = ml_train(tmp_path, "run.name=it", "data.on_corrupt=skip")
    check(1, result, "train skip", path="train/ants/06.jpg", bytes=unprocessed(result.stderr))
    data = read_json(tmp_path / "runs" / "it" / "metadata.json")["data"]
    assert (list(data["left_out"]), data["counts"]["train"]) == (["train/ants/06.jpg"], {"ants": 4, "bees": 4})
    assert "Left out: train/ants/06.jpg: " in (tmp_path / "runs" / "it" / "logs" / "train.log").read_text()
    assert everything(tmp_path) == before
    noise(8, 8).save(tmp_path / "data" / "train" / "ants" / "06.jpg")
    check(1, ml_train(tmp_path, "--resume", "runs/it", "--num_epochs", "2"), "resume", run=tmp_path / "runs" / "it")


def test_fault_02_a_file_of_zero_bytes(tmp_path: Path) -> None:
    (divided_images(tmp_path) / "val" / "bees" / "06.png").touch()
    check(2, ml_train(tmp_path), image="data/val/bees/06.png")


def test_fault_03_web_pages_called_jpg(tmp_path: Path) -> None:
    ants = divided_images(tmp_path) / "train" / "ants"
    for path in ants.iterdir():
        path.write_bytes(WEB_PAGE)
    first, second, third, fourth = sorted(f"train/ants/{path.name}" for path in ants.iterdir())
    check(3, ml_train(tmp_path), first=first, second=second, third=third, fourth=fourth)
    check(3, ml_train(tmp_path, "data.on_corrupt=skip"), "all", first=first)


def meddled(folder: Path, how: str, workers: int) -> subprocess.CompletedProcess[str]:
    """Train for three epochs on a divided folder in which something happens to one image."""
    (folder / "meddle.py").write_text(PLUGIN)
    return ml_train(
        folder,
        "plugins=[meddle.py]",
        f"callbacks={{meddle: {{image: {image_of(folder)}, how: {how}}}}}",
        f"data.num_workers={workers}",
        "training.num_epochs=3",
        "checkpointing.every_n_epochs=1",
        "run.name=it",
    )


def image_of(folder: Path) -> Path:
    return folder / "data" / "train" / "ants" / "02.png"


def digest_of(folder: Path) -> object:
    return read_json(folder / "runs" / "it" / "summary.json")["model_digest"]


@pytest.mark.slow
@pytest.mark.parametrize(("how", "workers"), [("deleted", 2), ("changed", 0)])
def test_fault_23_an_image_is_deleted_or_changed_in_mid_run(tmp_path: Path, how: str, workers: int) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    divided_images(straight)
    check(23, meddled(straight, "touched", workers), "touched")
    divided_images(broken)
    check(23, meddled(broken, how, workers), how, image="data/train/ants/02.png")
    assert read_json(broken / "runs" / "it" / "summary.json")["status"] == "failed"
    (broken / "kept.png").rename(image_of(broken))
    resumed = ml_train(broken, "--resume", "runs/it", "training.num_epochs=3", "checkpointing.every_n_epochs=1")
    check(23, resumed, "touched")
    assert digest_of(broken) == digest_of(straight)


def test_fault_23_an_image_changed_since_it_was_split(tmp_path: Path) -> None:
    image = raw_images(tmp_path) / "ants" / "06.bmp"
    noise(8, 8, seed=1).save(image)
    assert ml_split(tmp_path, "--raw_data", "data/raw", "--folds", "2").returncode == 0
    size = image.stat().st_size
    noise(8, 8, seed=2).save(image)
    assert image.stat().st_size == size
    check(23, ml_train(tmp_path, "data.on_corrupt=skip"), "split", image="data/raw/ants/06.bmp")
