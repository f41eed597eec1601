"""What becomes of images that do not decode, and of files that are not those that were split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from images import PIXEL

from mltrain.core.errors import DataError
from mltrain.data.image_sources import read_image_splits
from mltrain.data.image_table import TableColumns
from mltrain.data.labelled_splits import LabelledSplits
from mltrain.workflows.split import split_folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes divided into 4, 2 and 1 images each."""
    for split, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 7))):
        for label in ("ants", "bees"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for number in numbers:
                (tmp_path / "data" / split / label / f"{number}.png").write_text(f"{PIXEL}{label}{number}")
    return tmp_path / "data"


def read(data: Path, on_corrupt: Literal["stop", "skip"] = "stop", table: str | None = None) -> LabelledSplits:
    columns = TableColumns(split="split" if table else None)
    return read_image_splits(data, 0, splits_dir=None, table=table, columns=columns, on_corrupt=on_corrupt)


def spoil(data: Path, *paths: str) -> None:
    for path in paths:
        (data / path).write_bytes(b"" if path.endswith("0.png") else b"P5 9 9 255\n0")


def test_all_are_counted_and_listed(data: Path) -> None:
    spoil(data, "train/ants/0.png", "train/ants/1.png", "train/ants/2.png", "val/bees/4.png", "test/ants/6.png")
    with pytest.raises(DataError) as raised:
        read(data)
    *listed, last = raised.value.problems
    assert len(listed) == 5
    assert listed[0].startswith(f"{data}/test/ants/6.png: the image cannot be decoded (")
    assert listed[1] == f"{data}/train/ants/0.png: the image file is empty."
    assert last == (
        f"{data}: 5 images cannot be used. Replace them with whole images, or leave them out with data.on_corrupt=skip."
    )


def test_those_that_are_skipped_are_in_no_split(data: Path) -> None:
    whole = read(data)
    spoil(data, "train/ants/0.png", "train/ants/1.png", "val/bees/4.png")
    splits = read(data, "skip")
    assert splits.splits["train"].paths == whole.splits["train"].paths[2:]
    assert splits.splits["val"].labels == ["ants", "ants", "bees"]
    assert splits.splits["test"] == whole.splits["test"]
    assert set(splits.digests) == {path for part in splits.splits.values() for path in part.paths}
    (remark,) = splits.remarks
    assert remark.startswith(
        "3 images are left out (2 of train, 1 of val): train/ants/0.png: the image file is empty; "
    )
    assert list(splits.facts()["left_out"]) == ["train/ants/0.png", "train/ants/1.png", "val/bees/4.png"]


def test_a_split_or_a_class_of_training_without_images_is_refused(data: Path) -> None:
    spoil(data, "test/ants/6.png", "test/bees/6.png")
    with pytest.raises(DataError, match=r"data: test has no image that can be used: test/ants/6\.png: .*Replace them"):
        read(data, "skip")
    spoil(data, *(f"train/bees/{number}.png" for number in range(4)))
    with pytest.raises(DataError, match=r"data: train has no image of bees that can be used: train/bees/0\.png: the "):
        read(data, "skip")


def test_a_class_that_validation_loses_is_told(data: Path) -> None:
    spoil(data, "val/ants/4.png", "val/ants/5.png")
    notices = read(data, "skip").notices()
    assert any("val has no image of ants" in notice for notice in notices)


def test_tables_have_corrupt_images_too(data: Path) -> None:
    rows = [f"{path.relative_to(data)},{path.parent.name},{path.parts[-3]}" for path in sorted(data.rglob("*.png"))]
    (data / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    spoil(data, "train/ants/0.png")
    with pytest.raises(DataError, match=r"train/ants/0\.png: the image file is empty"):
        read(data, table="labels.csv")
    assert read(data, "skip", table="labels.csv").splits["train"].labels == ["ants"] * 3 + ["bees"] * 4


def test_files_that_are_not_those_that_were_split_are_told(data: Path) -> None:
    (data / "train").rename(data / "raw")
    split_folder(data / "raw", folds=2, test_ratio=0)
    assert read(data).notices()
    (data / "raw" / "ants" / "1.png").write_text(f"{PIXEL}ants9")
    again = f"split again: ml-split --raw_data {data}/raw --folds 2 --test_ratio 0 --overwrite"
    with pytest.raises(DataError) as raised:
        read(data, "skip")
    assert str(raised.value) == (
        f"{data}/raw/ants/1.png: has other content than when it was split. Put the old file back, or {again}"
    )
    (data / "raw" / "bees" / "1.png").write_text(f"{PIXEL}bees and wasps")
    (data / "raw" / "bees" / "2.png").write_text(f"{PIXEL}wasps")
    with pytest.raises(DataError, match=r"2 more files have changed too\. Put the old files back, or split again"):
        read(data)


def test_splitting_stops_for_corrupt_images_or_leaves_them_out(data: Path) -> None:
    raw = (data / "train").rename(data / "raw")
    spoil(data, "raw/ants/0.png", "raw/bees/3.png")
    with pytest.raises(
        DataError, match=r"raw/ants/0\.png: .* 2 images cannot be used\. .*leave them out with --on_corrupt"
    ):
        split_folder(raw, folds=2, test_ratio=0)
    assert not (data / "splits").exists()
    result = split_folder(raw, folds=2, test_ratio=0, on_corrupt="skip")
    assert sorted(result.splits.files) == [
        f"raw/{label}/{n}.png" for label, n in [("ants", 1), ("ants", 2), ("ants", 3), *(("bees", n) for n in range(3))]
    ]
    assert result.notices[0].startswith(
        "2 images are left out: raw/ants/0.png: the image file is empty; raw/bees/3.png"
    )
    assert split_folder(raw, folds=2, test_ratio=0, on_corrupt="skip").outcome == "unchanged"
    spoil(data, *(f"raw/ants/{number}.png" for number in range(4)))
    with pytest.raises(DataError, match="no image of class ants can be decoded"):
        split_folder(raw, folds=2, test_ratio=0, on_corrupt="skip", overwrite=True)
