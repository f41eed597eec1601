"""Faults of folders, classes, groups and tables: those that are refused leave everything as it was."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import check
from image_commands import CLASSES, divided_images, everything, ml_split, ml_train, raw_images, write_table
from PIL import Image

from mltrain.workflows.split import split_folder

Refused = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Run a command that is to fail, and see that it has added and changed nothing."""

    def run(
        command: Callable[..., subprocess.CompletedProcess[str]], *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        before = everything(tmp_path)
        result = command(tmp_path, *arguments)
        assert everything(tmp_path) == before
        assert not (tmp_path / "runs").exists()
        return result

    return run


# --- folders and classes


def test_fault_10_an_empty_class_folder_in_a_split(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    (raw / "wasps").mkdir()
    check(10, refused(ml_split, "--raw_data", "data/raw"), "split", raw=raw)


def test_fault_10_an_empty_class_folder_in_training(tmp_path: Path, refused: Refused) -> None:
    (divided_images(tmp_path) / "train" / "wasps").mkdir()
    check(10, refused(ml_train), "train")


def test_fault_11_no_images(tmp_path: Path, refused: Refused) -> None:
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    check(11, refused(ml_split, "--raw_data", "data/raw"), "none", raw=raw)


def test_fault_11_a_flat_folder(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path, 1)
    for name in CLASSES:
        (raw / name / "00.png").rename(raw / f"{name}.png")
        (raw / name).rmdir()
    check(11, refused(ml_split, "--raw_data", "data/raw"), "flat", raw=raw)
    for name in CLASSES:
        (raw / f"{name}.png").rename(raw.parent / f"{name}.png")
    raw.rmdir()
    check(11, refused(ml_train), "train")


def test_fault_11_a_data_folder_that_is_one_level_too_deep(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    split_folder(raw, folds=2)
    check(11, refused(ml_train, "data.data_dir=data/raw"), "misplaced", data=raw.parent)


def test_fault_13_validation_has_another_class(tmp_path: Path, refused: Refused) -> None:
    data = divided_images(tmp_path)
    (data / "val" / "bees").rename(data / "val" / "wasps")
    check(13, refused(ml_train), "strange")


def test_fault_14_a_single_class_in_a_split(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    shutil.rmtree(raw / "bees")
    check(14, refused(ml_split, "--raw_data", "data/raw"), "split", raw=raw)


def test_fault_14_a_single_class_in_training(tmp_path: Path, refused: Refused) -> None:
    data = divided_images(tmp_path)
    shutil.rmtree(data / "train" / "bees")
    check(14, refused(ml_train), "train")


def test_fault_15_a_class_smaller_than_the_folds(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path, 12)
    (raw / "wasps").mkdir()
    for number in range(4):
        (raw / "bees" / f"{number:02d}.png").rename(raw / "wasps" / f"{number:02d}.png")
    check(15, refused(ml_split, "--raw_data", "data/raw"), raw=raw)


def test_fault_16_every_class_smaller_than_the_folds(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path, 2)
    check(16, refused(ml_split, "--raw_data", "data/raw"), raw=raw)
    assert ml_split(tmp_path, "--raw_data", "data/raw", "--test_ratio", "0", "--folds", "2").returncode == 0


def test_fault_17_fewer_groups_than_folds(tmp_path: Path, refused: Refused) -> None:
    raw_images(tmp_path, 8)
    rows = [f"raw/{name}/{number:02d}.png,{name},p{number % 4}" for name in CLASSES for number in range(8)]
    write_table(tmp_path, "path,label,patient", *rows)
    table = ("--table", "data/labels.csv", "--group_column", "patient")
    check(17, refused(ml_split, *table))
    assert ml_split(tmp_path, *table, "--folds", "3").returncode == 0


# --- copies


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A run on divided data with a copy in another split, one under another class, and a class without validation."""
    folder = tmp_path_factory.mktemp("copies")
    data = divided_images(folder)
    shutil.copy(data / "train" / "ants" / "00.png", data / "val" / "ants" / "copy.png")
    shutil.copy(data / "train" / "ants" / "01.png", data / "train" / "bees" / "copy.png")
    (data / "train" / "wasps").mkdir()
    for number in range(2):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(data / "train" / "wasps" / f"{number}.png")
    return ml_train(folder)


def test_fault_13_validation_lacks_a_class(trained: subprocess.CompletedProcess[str]) -> None:
    check(13, trained, "absent")


def test_fault_18_copies_in_two_splits(trained: subprocess.CompletedProcess[str]) -> None:
    check(18, trained, "train")


def test_fault_18_copies_are_split_together(tmp_path: Path) -> None:
    raw = raw_images(tmp_path)
    for number in range(4):
        shutil.copy(raw / "ants" / f"{number:02d}.png", raw / "ants" / f"copy{number:02d}.png")
    check(18, ml_split(tmp_path, "--raw_data", "data/raw", "--folds", "2"), "split")
    lists = [set(path.read_text().split()) for path in (tmp_path / "data" / "splits").glob("*.txt")]
    assert len(lists) == 5
    for number in range(4):
        pair = {f"raw/ants/{number:02d}.png", f"raw/ants/copy{number:02d}.png"}
        assert all(len(pair & paths) in (0, 2) for paths in lists)


def test_fault_19_one_image_under_two_classes_in_a_split(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    shutil.copy(raw / "ants" / "00.png", raw / "bees" / "copy.png")
    check(19, refused(ml_split, "--raw_data", "data/raw"), "split", raw=raw)


def test_fault_19_one_image_under_two_classes_in_training(trained: subprocess.CompletedProcess[str]) -> None:
    check(19, trained, "train")


def test_fault_19_one_image_under_two_labels_of_a_table(tmp_path: Path, refused: Refused) -> None:
    raw_images(tmp_path)
    write_table(tmp_path, "path,label", "raw/ants/00.png,ants", "raw/bees/00.png,bees", "raw/ants/00.png,bees")
    check(19, refused(ml_split, "--table", "data/labels.csv"), "table")


# --- tables, links and paths


def test_fault_20_rows_that_cannot_be_used(tmp_path: Path, refused: Refused) -> None:
    raw_images(tmp_path)
    rows = ("raw/ants/00.png,ants", "raw/bees/00.png,bees", "raw/ants/01.png,NaN", "raw/ants/99.png,ants")
    write_table(tmp_path, "path,label", *rows, rows[0])
    check(20, refused(ml_split, "--table", "data/labels.csv"))


def test_fault_22_a_link_that_leads_nowhere(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    (raw / "ants" / "gone.png").symlink_to("nowhere.png")
    check(22, refused(ml_split, "--raw_data", "data/raw"), "dangling", raw=raw)


def test_fault_22_a_link_that_leads_nowhere_since_the_split(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    split_folder(raw, folds=2)
    path = Path("data") / (raw.parent / "splits" / "fold_0_train.txt").read_text().split()[0]
    (tmp_path / path).unlink()
    (tmp_path / path).symlink_to("nowhere.png")
    check(22, refused(ml_train), "train", file=path)


def test_fault_24_a_table_that_leads_out_of_the_data(tmp_path: Path, refused: Refused) -> None:
    raw, secret = raw_images(tmp_path), tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    (raw / "link.png").symlink_to(secret)
    write_table(
        tmp_path, "path,label,split", *(f"{path},ants,train" for path in ("../secret.png", secret, "raw/link.png"))
    )
    check(24, refused(ml_train, "data.table=labels.csv", "data.split_column=split"), "table", secret=secret)


def test_fault_24_a_split_file_that_leads_out_of_the_data(tmp_path: Path, refused: Refused) -> None:
    raw = raw_images(tmp_path)
    split_folder(raw, folds=2)
    with (raw.parent / "splits" / "fold_0_train.txt").open("a") as lines:
        lines.write("../secret.png\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    check(24, refused(ml_train), "lists")
