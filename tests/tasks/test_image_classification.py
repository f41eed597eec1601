"""Class folders of images: from split files to data sets and losses, and every refusal before compute is spent."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.seeding import SampleGenerator
from mltrain.data.split_files import class_of
from mltrain.tasks.base import task_config_class
from mltrain.tasks.image_classification import ImageClassification

CLASSES = ["blue", "green", "red"]


def paint(path: Path, label: int, seed: int) -> None:
    """Write a noisy 12 x 10 image in which the channel of the class is the brightest."""
    pixels = np.random.default_rng(seed).integers(0, 120, (10, 12, 3), dtype=np.uint8)
    pixels[:, :, 2 - label] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three classes of 15 images, split."""
    folder = tmp_path / "data" / "colours"
    for label, name in enumerate(CLASSES):
        for number in range(15):
            paint(folder / "raw" / name / f"{number:02d}.png", label, seed=100 * label + number)
    mltrain.split_folder(folder / "raw", folds=3, test_ratio=0.2)
    return folder


def settings(data: Path) -> dict[str, Any]:
    return {
        "task": "image_classification",
        "data": {"data_dir": str(data), "image_size": 8, "num_workers": 0},
        "model": {"architecture": "tiny_net"},
        "training": {"num_epochs": 1, "batch_size": 8},
        "tracking": {"mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
    }


def task_of(data: Path, overrides: dict[str, Any] | None = None) -> ImageClassification:
    return ImageClassification(check_config(settings(data), overrides or {}, task_config_class).config)


def batch_of(task: ImageClassification, split: str, count: int) -> dict[str, torch.Tensor]:
    dataset = task.datasets()[split]
    return task.collate([dataset.load(index, None) for index in range(count)])


def listed(data: Path, name: str) -> list[str]:
    return (data / "splits" / name).read_text().split()


def test_the_splits_are_those_of_the_files(data: Path) -> None:
    for fold in (0, 2):
        splits = task_of(data, {"data.fold": fold}).datasets()
        for split, name in [("train", f"fold_{fold}_train"), ("val", f"fold_{fold}_val"), ("test", "test")]:
            dataset = splits[split]
            assert [dataset.sample_id(index) for index in range(len(dataset))] == listed(data, f"{name}.txt")
    assert sum(map(len, splits.values())) == 45


def test_labels_are_the_places_of_the_sorted_classes(data: Path) -> None:
    task = task_of(data)
    assert task.classes == CLASSES
    dataset = task.datasets()["train"]
    for index in range(len(dataset)):
        pixels, label = dataset.load(index, None)
        assert CLASSES[label] == class_of(dataset.sample_id(index))
        assert pixels.float().mean(dim=(1, 2)).argmax() == 2 - label
    batch = batch_of(task, "train", 5)
    assert batch["pixels"].shape == (5, 3, 8, 8)
    assert (batch["pixels"].dtype, batch["labels"].dtype) == (torch.uint8, torch.int64)


def test_grey_images_have_one_channel(data: Path) -> None:
    overrides = {"data.image_mode": "L", "data.transforms.normalize": "half"}
    task = task_of(data, overrides)
    batch = batch_of(task, "val", 3)
    assert batch["pixels"].shape == (3, 1, 8, 8)
    assert task.losses(task.build_model(), batch).outputs.shape == (3, 3)


def test_augmentation_comes_from_the_samples_generator_alone(data: Path) -> None:
    dataset = task_of(data, {"data.transforms": {"train": {"random_horizontal_flip": True}}}).datasets()["train"]
    plain, _ = dataset.load(0, None)
    seen = [dataset.load(0, SampleGenerator(key))[0] for key in range(12)]
    again = [dataset.load(0, SampleGenerator(key))[0] for key in range(12)]
    assert all(torch.equal(one, two) for one, two in zip(seen, again, strict=True))
    mirrored = [torch.equal(pixels, plain.flip(-1)) for pixels in seen]
    assert [torch.equal(pixels, plain) for pixels in seen] == [not flag for flag in mirrored]
    assert 0 < sum(mirrored) < 12


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_torchs_cross_entropy_and_independent_of_each_other(data: Path, smoothing: float) -> None:
    task = task_of(data, {"training.label_smoothing": smoothing})
    model, batch = task.build_model(), batch_of(task, "train", 10)
    losses = task.losses(model, batch)
    logits = model(task.pipeline.normalization.apply(batch["pixels"]))
    mean = F.cross_entropy(logits, batch["labels"], label_smoothing=smoothing)
    torch.testing.assert_close(losses.values.mean(), mean)
    torch.testing.assert_close(losses.outputs, logits)
    for index in range(10):
        alone = {name: tensor[index : index + 1] for name, tensor in batch.items()}
        torch.testing.assert_close(task.losses(model, alone).values[0], losses.values[index])


def test_half_precision_logits_give_float_losses(data: Path) -> None:
    task = task_of(data)
    model = task.build_model()
    with torch.autocast("cpu", torch.bfloat16):
        losses = task.losses(model, batch_of(task, "train", 4))
    assert losses.outputs.dtype == torch.bfloat16
    assert losses.values.dtype == torch.float32


def test_a_missing_file_is_told(data: Path) -> None:
    gone = data / listed(data, "test.txt")[0]
    gone.unlink()
    with pytest.raises(DataError) as caught:
        task_of(data)
    assert str(caught.value).startswith(f"{gone}: is named in the split but is not there")


def test_a_changed_size_is_told_with_both(data: Path) -> None:
    changed = data / listed(data, "fold_0_val.txt")[0]
    size = changed.stat().st_size
    changed.write_bytes(changed.read_bytes() + b"\0\0")
    with pytest.raises(DataError, match=rf"{changed.name}: has {size + 2} bytes; it had {size} when it was split"):
        task_of(data)


def test_images_that_are_left_out_are_not_in_the_data(data: Path) -> None:
    whole = task_of(data).data_facts()
    bad = [listed(data, "fold_0_train.txt")[3], listed(data, "test.txt")[0]]
    for path in bad:
        (data / path).write_bytes((data / path).read_bytes()[:-30])
    facts = task_of(data, {"data.on_corrupt": "skip"}).data_facts()
    assert sorted(facts["left_out"]) == sorted(bad)
    assert "left_out" not in whole
    assert sum(facts["counts"]["train"].values()) == sum(whole["counts"]["train"].values()) - 1
    for path, name in zip(bad, ("fold_0_train", "test"), strict=True):
        lines = (data / "splits" / f"{name}.txt").read_text()
        (data / "splits" / f"{name}.txt").write_text(lines.replace(f"{path}\n", ""))
    (data / "splits" / "splits.json").unlink()
    assert task_of(data).data_facts()["digest"] == facts["digest"]


def test_another_number_of_classes_is_told_with_both(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.num_classes: is 7, but the data has 3 classes \(blue, green, red\)"):
        task_of(data, {"model.num_classes": 7})
    assert task_of(data, {"model.num_classes": 3}).classes == CLASSES


def test_lists_made_by_hand_do_without_metadata(data: Path) -> None:
    by_ml_split = task_of(data).data_facts()
    (data / "splits" / "splits.json").unlink()
    task = task_of(data)
    assert task.data_facts() == by_ml_split
    (data / "splits" / "test.txt").unlink()
    task = task_of(data)
    assert sorted(task.datasets()) == ["train", "val"]
    assert task.data_facts()["digest"] != by_ml_split["digest"]


def test_the_digest_says_which_file_is_in_which_split_and_what_is_in_it(data: Path) -> None:
    digests = [task_of(data).data_facts()["digest"], task_of(data, {"data.fold": 1}).data_facts()["digest"]]
    (data / "splits" / "splits.json").unlink()
    train, val = data / "splits" / "fold_0_train.txt", data / "splits" / "fold_0_val.txt"
    first, *rest = train.read_text().splitlines(keepends=True)
    train.write_text("".join(rest))
    val.write_text(val.read_text() + first)
    digests.append(task_of(data).data_facts()["digest"])
    paint(data / first.strip(), CLASSES.index(class_of(first)), seed=999)
    digests.append(task_of(data).data_facts()["digest"])
    assert len(set(digests)) == 4


def test_the_digest_does_not_depend_on_the_place_or_the_order_of_the_lists(data: Path, tmp_path: Path) -> None:
    facts = task_of(data).data_facts()
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    assert task_of(moved).data_facts() == facts
    assert facts["classes"] == CLASSES
    assert facts["counts"]["train"] == {"blue": 8, "green": 8, "red": 8}
    (data / "splits" / "splits.json").unlink()
    train = data / "splits" / "fold_0_train.txt"
    train.write_text("".join(reversed(train.read_text().splitlines(keepends=True))))
    assert task_of(data).data_facts()["digest"] == facts["digest"]


def test_an_absurd_image_size_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.image_size"):
        task_of(data, {"data.image_size": 100_000})


def as_table(data: Path) -> None:
    """Put the images below one folder without classes in their paths, and a table beside it."""
    lines = ["file,colour,use"]
    for split, name in (("train", "fold_0_train"), ("val", "fold_0_val"), ("test", "test")):
        for path in listed(data, f"{name}.txt"):
            target = f"images/{class_of(path)[::-1]}{Path(path).name}"
            (data / target).parent.mkdir(exist_ok=True)
            shutil.copy(data / path, data / target)
            lines.append(f"{target},{class_of(path)},{split}")
    (data / "labels.csv").write_text("\n".join(lines))


TABLE = {"data.table": "labels.csv", "data.path_column": "file", "data.label_column": "colour"}


def test_a_table_gives_the_samples_of_the_folders(data: Path) -> None:
    as_table(data)
    folders, table = task_of(data), task_of(data, {**TABLE, "data.split_column": "use"})
    assert table.classes == CLASSES
    for split, dataset in folders.datasets().items():
        other = table.datasets()[split]
        assert len(dataset) == len(other)
        for index in range(len(dataset)):
            (pixels, label), (table_pixels, table_label) = dataset.load(index, None), other.load(index, None)
            assert label == table_label
            assert torch.equal(pixels, table_pixels)
    assert table.data_facts()["counts"] == folders.data_facts()["counts"]
    assert table.data_facts()["digest"] != folders.data_facts()["digest"]


def test_folders_that_are_divided_give_the_same_samples(data: Path, tmp_path: Path) -> None:
    divided = tmp_path / "divided"
    for split, name in (("train", "fold_0_train"), ("valid", "fold_0_val"), ("test", "test")):
        for path in listed(data, f"{name}.txt"):
            target = divided / split / class_of(path) / Path(path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / path, target)
    assert task_of(divided).data_facts()["counts"] == task_of(data).data_facts()["counts"]
    result = mltrain.train(settings(divided), {"run.name": "divided"})
    assert result.summary["status"] == "completed"


def test_a_bad_image_of_a_table_stops_training_with_one_line(data: Path) -> None:
    as_table(data)
    bad = data / (data / "labels.csv").read_text().splitlines()[2].split(",")[0]
    bad.write_text("<html>")
    with pytest.raises(DataError, match=f"{bad.name}: not an image of a known kind"):
        mltrain.train(settings(data), {**TABLE, "data.split_column": "use", "run.name": "it"})


def test_a_task_goes_to_workers_that_are_spawned(data: Path) -> None:
    task = task_of(data, {"data.image_mode": "L"})
    copy = pickle.loads(pickle.dumps(task))
    assert copy.config.model_dump() == task.config.model_dump()
    assert type(copy.config.data) is type(task.config.data)
    theirs, ours = batch_of(copy, "train", 4), batch_of(task, "train", 4)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)
