"""A contact sheet holds the very pixels that the model will see, in the order in which it will see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images import noise, paint_classes
from PIL import Image

import mltrain
from mltrain.cli.main import main
from mltrain.config.load import check_config
from mltrain.config.yaml_file import dump_yaml
from mltrain.core.errors import ConfigError
from mltrain.data.loader import LoaderSettings, TrainingStream
from mltrain.data.plan import Cut, Position, ShuffledPlan
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification
from mltrain.workflows.contact_sheet import contact_sheet
from mltrain.workflows.show_data import show_data

CLASSES = ["blue", "green", "red"]
GAP, SIDE, LINE = 8, 128, 18


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "data" / "colours"
    paint_classes(folder, CLASSES, 6)
    mltrain.split_folder(folder / "raw", folds=3, test_ratio=0.2)
    train = {"trivial_augment": True, "random_resized_crop": {}, "mixup": {}, "cutmix": {}}
    return {
        "task": "image_classification",
        "seed": 9,
        "data": {"data_dir": str(folder), "image_size": 8, "num_workers": 0, "transforms": {"train": train}},
        "model": {"architecture": "tiny_net"},
        "training": {"batch_size": 4, "gradient_accumulation_steps": 2},
    }


def tile(sheet: Path, row: int, column: int) -> np.ndarray[Any, Any]:
    """Return the pixels of an image of 8 x 8 on a sheet, and check that each stands as a whole square."""
    left, top = GAP + column * (SIDE + GAP), GAP + row * (SIDE + LINE + GAP)
    with Image.open(sheet) as image:
        part = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))
    squares = part.reshape(8, 16, 8, 16, 3)
    assert (squares == squares[:, :1, :, :1]).all()
    return squares[:, 0, :, 0]


def seen_in_training(settings: dict[str, Any], epoch: int) -> list[np.ndarray[Any, Any]]:
    task = ImageClassification(check_config(settings, {}, task_config_class).config)
    dataset = task.datasets()["train"]
    plan = ShuffledPlan(len(dataset), 8, seed=9)
    start = Position(epoch=epoch)
    stream = TrainingStream(
        dataset, task.collate, plan, Cut(0, 1, 4, 2), seed=9, settings=LoaderSettings(), start=start, num_epochs=9
    )
    batches = [batch for window in stream.windows(plan.windows_per_epoch) for batch in window.batches]
    pixels = torch.cat([batch["pixels"] for batch in batches])
    return [image.permute(1, 2, 0).numpy() for image in pixels]


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_training_split_is_shown_as_the_epoch_will_bring_it(settings: dict[str, Any], epoch: int) -> None:
    assert show_data(settings, count=9, epoch=epoch, output="sheet.png") == 9
    expected = seen_in_training(settings, epoch)
    for place in range(9):
        assert np.array_equal(tile(Path("sheet.png"), *divmod(place, 8)), expected[place])


def test_other_splits_are_shown_as_in_evaluation(settings: dict[str, Any]) -> None:
    dataset = ImageClassification(check_config(settings, {}, task_config_class).config).datasets()["val"]
    assert show_data(settings, split="val", output="sheet.png") == len(dataset) <= 8
    for place in range(len(dataset)):
        expected = dataset.load(place, None)[0].permute(1, 2, 0).numpy()
        assert np.array_equal(tile(Path("sheet.png"), 0, place), expected)


def test_captions_name_the_classes(settings: dict[str, Any]) -> None:
    task = ImageClassification(check_config(settings, {}, task_config_class).config)
    pixels = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    batch = {"pixels": pixels, "labels": torch.tensor([0, 2, 1])}
    assert [caption for _, caption in task.preview(batch)] == ["blue", "red", "green"]
    batch |= {"partner_labels": torch.tensor([2, 0, 1]), "own_shares": torch.tensor([0.75, 0.6, 1.0])}
    assert [caption for _, caption in task.preview(batch)] == ["75% blue, red", "60% red, blue", "green"]


def test_grey_images_are_shown(settings: dict[str, Any]) -> None:
    assert show_data(settings, {"data.image_mode": "L"}, count=3, output="sheet.png") == 3
    shown = tile(Path("sheet.png"), 0, 2)
    assert (shown == shown[..., :1]).all()


def test_a_file_that_is_there_is_kept(settings: dict[str, Any]) -> None:
    Path("sheet.png").write_bytes(b"mine")
    with pytest.raises(ConfigError) as caught:
        show_data(settings, output="sheet.png")
    assert str(caught.value) == "sheet.png: is there already. Name another --output, or add --overwrite."
    assert Path("sheet.png").read_bytes() == b"mine"
    show_data(settings, count=2, output="sheet.png", overwrite=True)
    assert Image.open("sheet.png").format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"output": "sheet.jpg"}, "sheet.jpg: is not the name of a PNG file. Let it end in .png."),
        ({"output": "no/such/sheet.png"}, "no/such/sheet.png: cannot be written (No such file or directory)."),
        ({"split": "vall"}, "--split: there is no split 'vall'. Use one of: train, val, test."),
        ({"count": 0}, "--count: is 0. Use 1 or more."),
        ({"epoch": -1}, "--epoch: is -1. Use 0 or more."),
        (
            {"overrides": {"training.batch_size": 3}},
            "overrides, training.batch_size: is 3, but samples are combined in groups of 2",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_shown_is_told_in_one_line(settings: dict[str, Any], arguments: Any, line: str) -> None:
    with pytest.raises(mltrain.core.errors.MltrainError) as caught:
        show_data(settings, **arguments)
    assert str(caught.value).startswith(line)


def test_a_task_without_pictures_says_so(vectors: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"task: vectors has nothing to show\. Add VectorTask\.preview\."):
        show_data(vectors)


def test_the_command_shows_and_says_where(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(dump_yaml(settings))
    arguments = ["show-data", "--config", "c.yaml", "--count", "3", "data.transforms.train.mixup=null"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "3 examples of train in contact_sheet.png\n"
    assert main(arguments) == 2
    assert "contact_sheet.png: is there already" in capsys.readouterr().err
    assert main([*arguments, "--output", "two.png", "data.transforms.train.random_crop=true"]) == 2
    error = capsys.readouterr().err
    assert "command line, data.transforms.train.random_crop: stands beside random_resized_crop" in error


# --- the sheet itself


def test_a_sheet_is_as_large_as_its_tiles() -> None:
    tiles = [(noise(70, 50), "caption")] * 11
    assert contact_sheet(tiles, columns=4).size == (GAP + 4 * (SIDE + GAP), GAP + 3 * (50 + LINE + GAP))
    assert contact_sheet(tiles[:2]).size == (GAP + 2 * (SIDE + GAP), GAP + 50 + LINE + GAP)
    wide = contact_sheet([(noise(200, 100), "wide")])
    assert wide.size == (200 + 2 * GAP, 100 + LINE + 2 * GAP)
    assert np.array_equal(np.asarray(wide.crop((GAP, GAP, GAP + 200, GAP + 100))), np.asarray(noise(200, 100)))


def test_long_captions_stay_below_their_image() -> None:
    blank = Image.new("RGB", (64, 64), "white")
    sheet = np.asarray(contact_sheet([(blank, "W" * 100), (blank, ""), (blank, "пчёлы")]))
    ink = (sheet < 128).all(axis=2)[GAP + SIDE :]
    columns = [ink[:, GAP + place * (SIDE + GAP) - 2 : (place + 1) * (SIDE + GAP)].sum() for place in range(3)]
    assert columns[0] > 50
    assert columns[1] == 0
    assert columns[2] > 20
