"""Predicting from paths and images, one or many; and what is said of other things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mltrain.core.errors import DataError
from mltrain.tasks.image_pipeline import ImagePipeline
from mltrain.tasks.image_prediction import ImagePredictor
from mltrain.tasks.image_sections import ImageDataSection


@pytest.fixture
def predict() -> ImagePredictor:
    pipeline = ImagePipeline.from_section(ImageDataSection(data_dir="x", image_size=8))
    torch.manual_seed(0)
    return ImagePredictor(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3)), pipeline, ["a", "b", "c"])


@pytest.fixture
def paths() -> list[Path]:
    generator = np.random.default_rng(0)
    made = [Path(f"{number}.png") for number in range(5)]
    for path in made:
        Image.fromarray(generator.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(path)
    return made


def test_one_input_gives_one_row(predict: ImagePredictor, paths: list[Path]) -> None:
    rows = predict(paths)
    assert len(rows) == 5
    for given in (paths[1], str(paths[1]), Image.open(paths[1]), (paths[1],)):
        (row,) = predict(given)
        assert row["class"] == rows[1]["class"]
        assert row["probability"] == pytest.approx(rows[1]["probability"], rel=1e-5)


def test_images_are_made_what_the_model_takes(predict: ImagePredictor, paths: list[Path]) -> None:
    """Grey, with alpha, and rotated by EXIF: as the same content in a file."""
    image = Image.open(paths[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save("turned.png", exif=exif)
    for name, other in {"grey": image.convert("L"), "alpha": image.convert("RGBA")}.items():
        other.save(f"{name}.png")
        assert predict(other) == predict(f"{name}.png")
    assert predict(Image.open("turned.png")) == predict("turned.png") != predict(paths[0])


def test_many_are_predicted_in_order(predict: ImagePredictor, paths: list[Path]) -> None:
    expected = [row["class"] for row in predict(paths)]
    assert [row["class"] for row in predict(paths * 60)] == expected * 60


@pytest.mark.parametrize("given", [3, None, np.zeros((4, 4)), torch.zeros(3, 4, 4), [3], {"a": 1}], ids=repr)
def test_other_things_are_refused(predict: ImagePredictor, given: Any) -> None:
    with pytest.raises(
        DataError, match=r"predict: cannot predict from a value of type \w+\. Give a path, an image of Pillow"
    ):
        predict(given)


def test_a_file_that_cannot_be_read_is_no_reason_to_split_again(predict: ImagePredictor) -> None:
    Path("bad.png").write_bytes(b"nothing")
    for name, fix in {"bad.png": "Name an image file that can be read", "none.png": "Check the path"}.items():
        with pytest.raises(DataError, match=rf"{name}: .*{fix}") as caught:
            predict(name)
        assert "ml-split" not in str(caught.value)
