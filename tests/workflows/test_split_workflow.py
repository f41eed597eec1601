"""Splitting a folder of images from end to end."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from images import PIXEL

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import content_digest
from mltrain.data.fold_lists import ClassFolders, FoldFiles, read_fold
from mltrain.data.image_files import ImageFolder, scan_image_folder
from mltrain.data.split_files import available_folds, class_of
from mltrain.workflows.split import split_folder

HYMENOPTERA = Path(__file__).resolve().parents[3] / "shared" / "data" / "hymenoptera"


def read_split(folder: Path, fold: int) -> FoldFiles:
    return read_fold(folder, fold, ClassFolders(folder.parent, folder))


def make_images(root: Path, **classes: int) -> Path:
    """Write images, each of its own content."""
    for name, number in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(number):
            (root / name / f"{i}.jpg").write_text(f"{PIXEL}{name} {i}")
    return root


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_images(tmp_path / "x" / "raw", ants=20, bees=40)


def test_the_defaults_make_five_folds_and_a_test_set_beside_the_images(raw: Path) -> None:
    result = split_folder(raw)
    assert (result.outcome, result.folder, result.notices) == ("written", raw.parent / "splits", [])
    assert available_folds(result.folder) == [0, 1, 2, 3, 4]
    folds = [read_split(result.folder, fold) for fold in range(5)]
    everything = sorted(f"raw/{path.relative_to(raw)}" for path in raw.rglob("*.jpg"))
    for fold in folds:
        assert sorted([*fold.train, *fold.val, *fold.test]) == everything
        assert Counter(map(class_of, fold.test)) == {"ants": 3, "bees": 6}
        assert fold.test == folds[0].test
    assert sorted(path for fold in folds for path in fold.val) == sorted(set(everything) - set(folds[0].test))
    for path in everything:
        assert (raw.parent / path).stat().st_size == folds[0].records[path].size


def test_digests_are_those_of_the_content(raw: Path) -> None:
    records = read_split(split_folder(raw).folder, 0).records
    for path, record in records.items():
        assert record.digest == content_digest((raw.parent / path).read_bytes())


def test_a_second_call_changes_nothing_and_another_seed_is_refused(raw: Path) -> None:
    split_folder(raw)
    assert split_folder(raw).outcome == "unchanged"
    with pytest.raises(DataError, match="other splits"):
        split_folder(raw, seed=43)
    assert split_folder(raw, seed=43, overwrite=True).outcome == "written"


def test_renamed_files_and_classes_stay_where_they_were(raw: Path, tmp_path: Path) -> None:
    def parts(raw: Path) -> list[set[str]]:
        folder = split_folder(raw, folds=3).folder
        folds = [read_split(folder, fold) for fold in range(3)]
        return [
            {(raw.parent / path).read_text() for path in paths}
            for paths in (folds[0].test, *(fold.val for fold in folds))
        ]

    copy = tmp_path / "other" / "images"
    for source, target in (("ants", "zebras"), ("bees", "aardvarks")):
        (copy / target / "deep").mkdir(parents=True)
        files = sorted((raw / source).iterdir())
        random.Random(1).shuffle(files)
        for i, path in enumerate(files):
            shutil.copy(path, copy / target / ("deep" if i % 2 else ".") / f"IMG_{i}.png")
    assert parts(copy) == parts(raw)


def test_copies_stay_on_one_side_and_are_told(raw: Path) -> None:
    for i in range(10):
        shutil.copy(raw / "bees" / f"{i}.jpg", raw / "bees" / f"copy-of-{i}.jpg")
    (raw / "bees" / "notes.txt").write_text("skipped")
    result = split_folder(raw)
    assert result.notices == [
        "10 files are exact copies of others; copies stay in one split.",
        "Skipped: 1 files of kind .txt.",
    ]
    for fold in range(5):
        files = read_split(result.folder, fold)
        for part in (files.train, files.val, files.test):
            for i in range(10):
                assert (f"raw/bees/{i}.jpg" in part) == (f"raw/bees/copy-of-{i}.jpg" in part)


def test_a_ratio_of_one_fold_is_k_fold(raw: Path) -> None:
    result = split_folder(raw, folds=3, ratio=(0.567, 0.283, 0.15))
    assert (result.splits.method, result.splits.validation_ratio) == ("k-fold", pytest.approx(0.85 / 3))
    assert result.splits.validation == split_folder(raw, folds=3, output=raw.parent / "b").splits.validation


def test_another_ratio_is_repeated_hold_out(raw: Path) -> None:
    result = split_folder(raw, folds=4, ratio=(0.7, 0.1, 0.2))
    assert (result.splits.method, result.splits.test_ratio, result.splits.validation_ratio) == (
        "repeated hold-out",
        0.2,
        0.1,
    )
    for fold in range(4):
        files = read_split(result.folder, fold)
        assert [len(files.train), len(files.val), len(files.test)] == [42, 6, 12]


def test_one_fold_with_a_ratio_is_a_single_split(raw: Path) -> None:
    result = split_folder(raw, folds=1, ratio=(0.6, 0.2, 0.2))
    assert available_folds(result.folder) == [0]


def test_no_test_set(raw: Path) -> None:
    result = split_folder(raw, test_ratio=0)
    assert (result.folder / "test.txt").read_text() == ""
    assert read_split(result.folder, 0).test == []


def test_lists_are_relative_to_the_parent_of_the_folder_as_it_was_named(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "data" / "pictures"
    link.parent.mkdir()
    link.symlink_to(raw, target_is_directory=True)
    monkeypatch.chdir(link.parent)
    result = split_folder("pictures/")
    assert result.folder == tmp_path / "data" / "splits"
    assert read_split(result.folder, 0).test[0].startswith("pictures/ants/")
    monkeypatch.chdir(raw / "ants")
    assert split_folder("..", output="../../here").splits.test[0].startswith("raw/ants/")
    assert (raw.parent / "here" / "splits.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 1}, "--folds: 1 folds.*--ratio"),
        ({"folds": 0, "ratio": (0.6, 0.2, 0.2)}, "--folds: 0 folds"),
        ({"test_ratio": 1.0}, "--test_ratio: 1.0 is no share"),
        ({"test_ratio": -0.1}, "--test_ratio"),
        ({"test_ratio": float("nan")}, "--test_ratio"),
        ({"ratio": (0.7, 0.15, 0.1)}, r"--ratio: '0.7 0.15 0.1' sums to 0.95"),
        ({"ratio": (0.8, 0.2)}, "--ratio.*not three shares"),
        ({"ratio": (float("nan"), 0.2, 0.2)}, "--ratio"),
        ({"ratio": (0.0, 0.8, 0.2)}, "--ratio.*no files for training"),
        ({"ratio": (0.8, 0.0, 0.2)}, "--ratio.*no files for training or validation"),
        ({"ratio": (0.9, 0.3, -0.2)}, "--ratio.*negative"),
    ],
)
def test_arguments_out_of_range_are_refused(raw: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_folder(raw, **arguments)
    assert not (raw.parent / "splits").exists()


@pytest.mark.parametrize("output", ["raw", "raw/splits", "raw/../raw/a/b"])
def test_an_output_among_the_images_is_refused(raw: Path, output: str) -> None:
    with pytest.raises(ConfigError, match=r"--output.*among the images"):
        split_folder(raw, output=raw.parent / output)


def test_a_file_that_vanishes_is_one_line(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(folder: Path) -> ImageFolder:
        found = scan_image_folder(folder)
        (raw / "ants" / "0.jpg").unlink()
        return found

    monkeypatch.setattr("mltrain.workflows.split.scan_image_folder", vanish)
    with pytest.raises(DataError, match=r"ants/0\.jpg: the image cannot be read \(No such file"):
        split_folder(raw)


@pytest.mark.shared_data
@pytest.mark.skipif(not HYMENOPTERA.is_dir(), reason=f"the real data is not there: {HYMENOPTERA}")
def test_hymenoptera(tmp_path: Path) -> None:
    result = split_folder(HYMENOPTERA / "raw", output=tmp_path)
    assert result.notices == []
    counts = result.splits.counts()
    assert {name: counts[name]["test"] for name in counts} == {"ants": 29, "bees": 31}
    folds = [read_split(tmp_path, fold) for fold in range(5)]
    assert sorted(len(fold.val) for fold in folds) == [67, 67, 68, 68, 68]
    assert len({path for fold in folds for path in fold.val}) == 338
    assert all((HYMENOPTERA / path).is_file() for path in folds[0].records)
