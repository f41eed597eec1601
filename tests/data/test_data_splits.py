"""The split files: what is written, what is read back, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mltrain.core import files as core_files
from mltrain.core.errors import DataError
from mltrain.data import splits as splits_module
from mltrain.data.fold_lists import ClassFolders, FoldFiles, read_fold
from mltrain.data.split_files import FileRecord, available_folds, class_of
from mltrain.data.splits import Splits, write_splits

PATHS = [f"raw/{name}/{number}.jpg" for name in ("ants", "bees") for number in range(5)]


@pytest.fixture
def splits() -> Splits:
    """Two classes of five files: one test, two folds of two."""
    return Splits(
        method="k-fold",
        seed=7,
        test_ratio=0.2,
        validation_ratio=0.4,
        files={path: FileRecord(f"{number:040x}", number + 1) for number, path in enumerate(PATHS)},
        labels={path: path.split("/")[1] for path in PATHS},
        test=("raw/ants/0.jpg", "raw/bees/0.jpg"),
        validation=tuple(
            tuple(f"raw/{name}/{number}.jpg" for name in ("ants", "bees") for number in numbers)
            for numbers in ((1, 2), (3, 4))
        ),
    )


@pytest.fixture
def folder(splits: Splits, tmp_path: Path) -> Path:
    write_splits(splits, tmp_path / "splits")
    return tmp_path / "splits"


def read_split(folder: Path, fold: int) -> FoldFiles:
    return read_fold(folder, fold, ClassFolders(folder.parent, folder))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def by_hand(folder: Path, **lists: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, paths in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"{path}\n" for path in paths))
    return folder


def test_the_lists_hold_one_path_a_line(folder: Path) -> None:
    files = contents(folder)
    assert set(files) == {
        "test.txt",
        "fold_0_train.txt",
        "fold_0_val.txt",
        "fold_1_train.txt",
        "fold_1_val.txt",
        "splits.json",
    }
    assert files["test.txt"] == "raw/ants/0.jpg\nraw/bees/0.jpg\n"
    assert files["fold_0_val.txt"] == "raw/ants/1.jpg\nraw/ants/2.jpg\nraw/bees/1.jpg\nraw/bees/2.jpg\n"
    assert files["fold_0_train.txt"] == files["fold_1_val.txt"]


def test_the_metadata_says_how_the_splits_were_made(folder: Path) -> None:
    facts = json.loads((folder / "splits.json").read_text())
    assert {key: facts[key] for key in ("format", "method", "folds", "seed", "test_ratio", "validation_ratio")} == {
        "format": 1,
        "method": "k-fold",
        "folds": 2,
        "seed": 7,
        "test_ratio": 0.2,
        "validation_ratio": 0.4,
    }
    assert facts["mltrain"]
    assert facts["classes"] == ["ants", "bees"]
    assert facts["counts"]["bees"] == {
        "test": 1,
        "fold_0_train": 2,
        "fold_0_val": 2,
        "fold_1_train": 2,
        "fold_1_val": 2,
    }
    assert list(facts["files"]) == PATHS
    assert facts["files"]["raw/ants/1.jpg"] == {"digest": f"{1:040x}", "size": 2}


def test_what_is_written_is_read_back(splits: Splits, folder: Path) -> None:
    for fold in (0, 1):
        read = read_split(folder, fold)
        assert read.train == splits.train(fold)
        assert read.val == list(splits.validation[fold])
        assert read.test == list(splits.test)
        assert read.records == splits.files
    assert available_folds(folder) == [0, 1]


def test_unusual_names_survive(splits: Splits, tmp_path: Path) -> None:
    odd = ' été "蟻"\t\\.jpg '
    renamed = {path.replace("1.jpg", odd): record for path, record in splits.files.items()}
    validation = tuple(tuple(path.replace("1.jpg", odd) for path in paths) for paths in splits.validation)
    labels = {path: path.split("/")[1] for path in renamed}
    write_splits(replace(splits, files=renamed, labels=labels, validation=validation), tmp_path)
    read = read_split(tmp_path, 0)
    assert f"raw/ants/{odd}" in read.val
    assert read.records == renamed


def test_the_metadata_is_written_last(splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def record(path: Path, text: str) -> None:
        written.append(path.name)
        core_files.write_text(path, text)

    monkeypatch.setattr(splits_module, "write_text", record)
    write_splits(splits, tmp_path)
    assert len(written) == 6
    assert written[-1] == "splits.json"


def test_the_same_splits_are_left_untouched(splits: Splits, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert write_splits(splits, folder) == "unchanged"
    assert write_splits(splits, folder, overwrite=True) == "unchanged"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_another_version_of_mltrain_that_splits_alike_changes_nothing(
    splits: Splits, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mltrain.__version__", "99.0")
    assert write_splits(splits, folder) == "unchanged"


def test_other_splits_are_kept_unless_overwrite_is_given(splits: Splits, folder: Path) -> None:
    other = replace(splits, seed=8, validation=splits.validation[:1])
    before = contents(folder)
    with pytest.raises(DataError, match=r"other splits.*--overwrite"):
        write_splits(other, folder)
    assert contents(folder) == before
    assert write_splits(other, folder, overwrite=True) == "written"
    assert available_folds(folder) == [0]
    assert write_splits(other, folder) == "unchanged"


def test_lists_added_by_hand_are_not_overwritten(splits: Splits, folder: Path) -> None:
    by_hand(folder, fold_9_train=PATHS[:5])
    with pytest.raises(DataError, match="other splits"):
        write_splits(splits, folder)
    write_splits(splits, folder, overwrite=True)
    assert not (folder / "fold_9_train.txt").exists()


def test_lists_made_by_hand_are_not_overwritten(splits: Splits, tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=PATHS[:5])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="other splits"):
        write_splits(splits, tmp_path)
    write_splits(splits, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("steps", range(1, 7))
@pytest.mark.parametrize("over_old", [False, True])
def test_an_interrupted_write_is_recognised_and_can_be_repeated(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, over_old: bool
) -> None:
    folder = tmp_path / "splits"
    if over_old:
        write_splits(replace(splits, seed=1), folder)
    left = [steps]

    def die(path: Path, text: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        core_files.write_text(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(splits_module, "write_text", die)
        with pytest.raises(KeyboardInterrupt):
            write_splits(splits, folder, overwrite=over_old)
    assert not (folder / "splits.json").exists()
    with pytest.raises(DataError, match="interrupted"):
        read_split(folder, 0)
    assert write_splits(splits, folder) == "written"
    assert read_split(folder, 1).records == splits.files


def test_a_folder_that_cannot_be_written_is_refused(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be"):
        write_splits(splits, tmp_path / "file")


def test_a_full_disk_is_one_line(splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(splits_module, "write_text", full)
    with pytest.raises(DataError, match=r"No space left on device.*free space"):
        write_splits(splits, tmp_path)


def test_a_missing_fold_names_the_folds_and_the_command(folder: Path) -> None:
    with pytest.raises(DataError) as raised:
        read_split(folder, 6)
    command = f"ml-split --raw_data {folder.parent}/raw --folds 7 --test_ratio 0.2 --seed 7 --overwrite"
    assert str(raised.value).startswith(f"{folder}: no fold 6; available folds: 0, 1. ")
    assert str(raised.value).endswith(command)


def test_a_missing_folder_names_the_command(tmp_path: Path) -> None:
    assert available_folds(tmp_path / "splits") == []
    with pytest.raises(DataError, match=r"no split files.*ml-split --raw_data .*/raw --folds 5"):
        read_split(tmp_path / "splits", 0)


def test_a_fold_needs_both_lists(tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=PATHS[:5], fold_3_train=PATHS[:5], fold_3_val=PATHS[5:], fold_03_val=PATHS[:1])
    assert available_folds(tmp_path) == [3]


def test_lists_made_by_hand_need_neither_metadata_nor_test(tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=PATHS[:4] + PATHS[5:9], fold_0_val=[PATHS[4]])
    (tmp_path / "fold_0_val.txt").write_bytes(b"\xef\xbb\xbfraw/ants/4.jpg\r\n\r\n")
    read = read_split(tmp_path, 0)
    assert read.val == ["raw/ants/4.jpg"]
    assert (read.test, read.records) == ([], {})


@pytest.mark.parametrize(
    "path",
    [
        "../raw/ants/1.jpg",
        "raw/../../ants/1.jpg",
        "/raw/ants/1.jpg",
        "raw//ants/1.jpg",
        "raw/./ants/1.jpg",
        "ants/1.jpg",
        "1.jpg",
        "C:\\raw\\ants\\1.jpg",
        "raw/ants/\0.jpg",
        "raw/ants/..",
    ],
)
@pytest.mark.parametrize("name", ["fold_0_train", "fold_0_val", "test"])
def test_paths_outside_the_data_folder_are_refused(tmp_path: Path, path: str, name: str) -> None:
    lists = {"fold_0_train": PATHS[:1], "fold_0_val": PATHS[1:2], "test": PATHS[2:3]}
    by_hand(tmp_path, **{**lists, name: [*lists[name], path]})
    with pytest.raises(DataError, match=f"{name}.txt.*not a path inside the data folder"):
        read_split(tmp_path, 0)


def test_a_file_in_two_lists_is_refused(tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=PATHS[:3], fold_0_val=PATHS[2:4])
    with pytest.raises(DataError, match=r"raw/ants/2\.jpg \(fold_0_train\.txt, fold_0_val\.txt\)"):
        read_split(tmp_path, 0)
    by_hand(tmp_path, fold_0_val=PATHS[3:4], test=PATHS[3:4])
    with pytest.raises(DataError, match=r"raw/ants/3\.jpg \(fold_0_val\.txt, test\.txt\)"):
        read_split(tmp_path, 0)


def test_a_file_twice_in_a_list_is_refused(tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=[PATHS[0], PATHS[0]], fold_0_val=PATHS[1:2])
    with pytest.raises(DataError, match=r"listed twice: raw/ants/0\.jpg \(fold_0_train\.txt\)"):
        read_split(tmp_path, 0)


def test_an_empty_training_list_is_refused(tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=[], fold_0_val=PATHS[:1])
    with pytest.raises(DataError, match=r"fold_0_train\.txt: the training list is empty"):
        read_split(tmp_path, 0)


def test_a_list_that_is_not_text_is_refused(tmp_path: Path) -> None:
    by_hand(tmp_path, fold_0_train=PATHS[:3], fold_0_val=PATHS[3:5])
    (tmp_path / "fold_0_val.txt").write_bytes(b"raw/ants/caf\xe9.jpg\n")
    with pytest.raises(DataError, match=r"fold_0_val\.txt: the list cannot be read \(not UTF-8\)"):
        read_split(tmp_path, 0)


def test_a_list_changed_after_the_split_is_refused(splits: Splits, folder: Path) -> None:
    (folder / "fold_1_train.txt").write_text("raw/ants/1.jpg\nraw/bees/1.jpg\n")
    read_split(folder, 0)
    with pytest.raises(DataError, match=r"not as ml-split wrote it: fold_1_train\.txt.*Delete splits\.json"):
        read_split(folder, 1)
    with pytest.raises(DataError, match="other splits"):
        write_splits(splits, folder)
    (folder / "splits.json").unlink()
    assert read_split(folder, 1).train == ["raw/ants/1.jpg", "raw/bees/1.jpg"]


def test_a_missing_test_list_is_refused_beside_the_metadata(folder: Path) -> None:
    (folder / "test.txt").unlink()
    with pytest.raises(DataError, match=r"test\.txt: the list cannot be read \(No such file"):
        read_split(folder, 0)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1}', '{"format": 1, "lists": {}, "files": {"a": 3}}'])
def test_damaged_metadata_is_refused(folder: Path, text: str) -> None:
    (folder / "splits.json").write_text(text)
    with pytest.raises(DataError, match=r"splits\.json: the file is damaged"):
        read_split(folder, 0)


def test_metadata_of_a_later_format_is_refused(folder: Path) -> None:
    facts = json.loads((folder / "splits.json").read_text())
    (folder / "splits.json").write_text(json.dumps({**facts, "format": 2}))
    with pytest.raises(DataError, match="its format is 2, this mltrain reads 1"):
        read_split(folder, 0)


def test_class_of() -> None:
    assert class_of("raw/ants/2020/1.jpg") == "ants"
