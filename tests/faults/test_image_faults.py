"""Faults of single images: those that are taken are learned from as people see them, all in one run."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from faults import check
from image_commands import CONFIG, divided_images, everything, ml_split, ml_train, raw_images
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mltrain.config.load import load_config
from mltrain.core.files import read_json
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification

Pixels = NDArray[np.uint8]

LEFT_TO_RIGHT = np.repeat(np.linspace(0, 255, 8).astype(np.uint8)[None], 8, axis=0)
ODD_NAME = "raw/ants/été 蟻 'q', \"d\" #%20;.png"


@dataclass(frozen=True)
class Run:
    """A split and a training run on images of every kind. pixels: path -> what was learned from, (8, 8, 3)."""

    split: subprocess.CompletedProcess[str]
    train: subprocess.CompletedProcess[str]
    pixels: dict[str, Pixels]
    summary: dict[str, object]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What `ml-split` and `ml-train` made of one folder that has all that is accepted."""
    folder = tmp_path_factory.mktemp("kinds")
    _write_kinds(raw_images(folder) / "ants")
    _write_what_tools_leave(folder / "data" / "raw")
    (folder / "data" / "raw" / "bees" / "loop").symlink_to(folder / "data" / "raw" / "bees", target_is_directory=True)
    split = ml_split(folder, "--raw_data", "data/raw", "--folds", "2")
    train = ml_train(folder, "run.name=it")
    return Run(split, train, _learned(folder), read_json(folder / "runs" / "it" / "summary.json"))


def _write_kinds(ants: Path) -> None:
    Image.new("RGB", (8, 8), (10, 200, 30)).save(ants / "png.jpg", "PNG")
    Image.fromarray(LEFT_TO_RIGHT.astype(np.uint16) * 257).save(ants / "deep.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(ants / "cmyk.jpg", quality=100)
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 12, 34, 56])
    palette.save(ants / "palette.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 51)).save(ants / "alpha.png")
    rotated = Image.Exif()
    rotated[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.rot90(LEFT_TO_RIGHT)).save(ants / "turned.jpg", quality=100, exif=rotated)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("lime", "blue", "black")]
    frames[0].save(ants / "animated.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (1, 1), (7, 8, 9)).save(ants / "dot.png")
    Image.new("RGB", (8, 8), (90, 80, 70)).save(ants / Path(ODD_NAME).name)


def _write_what_tools_leave(raw: Path) -> None:
    for place in (".ipynb_checkpoints", "ants/.ipynb_checkpoints", "ants/.hidden", "__MACOSX/ants", "bees/__pycache__"):
        (raw / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), "white").save(raw / place / "left.png")
    (raw / ".DS_Store").write_bytes(b"\0")
    Image.new("RGB", (8, 8), "white").save(raw / "ants" / "._00.png")


def _learned(folder: Path) -> dict[str, Pixels]:
    """Return the pixels of all three splits as the task gives them to the model, without augmentation."""
    (folder / "absolute.yaml").write_text(CONFIG.replace("data_dir: data", f"data_dir: {folder / 'data'}"))
    datasets = ImageClassification(load_config(folder / "absolute.yaml", {}, task_config_class).config).datasets()
    return {
        dataset.sample_id(index): dataset.load(index, None)[0].permute(1, 2, 0).numpy()
        for dataset in datasets.values()
        for index in range(len(dataset))
    }


def _difference(pixels: Pixels, expected: object) -> int:
    return int(np.abs(pixels.astype(int) - np.asarray(expected, dtype=int)).max())


def test_fault_04_a_png_called_jpg(run: Run) -> None:
    check(4, run.train)
    assert _difference(run.pixels["raw/ants/png.jpg"], (10, 200, 30)) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deep.png", LEFT_TO_RIGHT[..., None]),
        ("cmyk.jpg", (255, 0, 0)),
        ("palette.png", (12, 34, 56)),
        ("alpha.png", (255, 204, 204)),
    ],
)
def test_fault_05_kinds_of_pixels(run: Run, name: str, expected: object) -> None:
    check(5, run.train)
    assert _difference(run.pixels[f"raw/ants/{name}"], expected) <= 2


def test_fault_06_a_photograph_on_its_side(run: Run) -> None:
    check(6, run.train)
    assert _difference(run.pixels["raw/ants/turned.jpg"], LEFT_TO_RIGHT[..., None]) <= 3


def test_fault_07_an_animated_gif(run: Run) -> None:
    check(7, run.train)
    assert _difference(run.pixels["raw/ants/animated.gif"], (0, 255, 0)) == 0


def test_fault_08_a_decompression_bomb(tmp_path: Path) -> None:
    bomb = divided_images(tmp_path) / "train" / "ants" / "bomb.png"
    bomb.write_bytes(_png_header(50_000, 50_000))
    before = everything(tmp_path)
    check(8, ml_train(tmp_path))
    assert everything(tmp_path) == before


def test_fault_09_an_image_of_one_pixel(run: Run) -> None:
    check(9, run.train)
    assert run.pixels["raw/ants/dot.png"].shape == (8, 8, 3)
    assert _difference(run.pixels["raw/ants/dot.png"], (7, 8, 9)) == 0


def test_fault_12_what_tools_leave_behind(run: Run) -> None:
    check(12, run.split)
    assert {path.split("/")[1] for path in run.pixels} == {"ants", "bees"}
    assert len([path for path in run.pixels if path.startswith("raw/ants/")]) == 6 + 9
    assert run.summary["status"] == "completed"


def test_fault_21_unusual_names(run: Run) -> None:
    check(21, run.split, "taken")
    check(21, run.train, "taken")
    assert _difference(run.pixels[ODD_NAME], (90, 80, 70)) == 0


def test_fault_21_names_that_are_no_line_of_text(tmp_path: Path) -> None:
    raw = raw_images(tmp_path)
    for name in (b"a\nb.png", b"caf\xe9.png"):
        os.link(os.fsencode(raw / "ants" / "00.png"), os.fsencode(raw / "ants") + b"/" + name)
    check(21, ml_split(tmp_path, "--raw_data", "data/raw"), "refused", raw=raw)
    assert not (tmp_path / "data" / "splits").exists()


def test_fault_22_a_link_to_a_folder_around_it(run: Run) -> None:
    check(22, run.split, "loop")
    assert sorted(path for path in run.pixels if "bees" in path) == [f"raw/bees/{n:02d}.png" for n in range(6)]


def _png_header(width: int, height: int) -> bytes:
    """Return a PNG file that claims a size and has no pixels."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b""), b"IEND": b""}
    chunks = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
