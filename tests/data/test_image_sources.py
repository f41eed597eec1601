"""The layouts of a data folder: which one is taken, what they give alike, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path

import pytest
from images import PIXEL

from mltrain.cli.main import main
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import content_digest
from mltrain.data.image_sources import read_image_splits
from mltrain.data.image_table import TableColumns
from mltrain.data.labelled_splits import LabelledSplits
from mltrain.workflows.split import split_folder
from mltrain.workflows.split_table import split_table


def put(path: Path, content: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or PIXEL + path.name + path.parent.name)
    return path


def read(
    data_dir: Path,
    fold: int = 0,
    *,
    splits_dir: Path | None = None,
    table: str | None = None,
    split_column: str | None = None,
) -> LabelledSplits:
    columns = TableColumns(split=split_column)
    return read_image_splits(data_dir, fold, splits_dir=splits_dir, table=table, columns=columns)


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Two classes divided into 4, 2 and 1 images each."""
    root = tmp_path / "divided"
    for split, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 7))):
        for label in ("ants", "bees"):
            for number in numbers:
                put(root / split / label / f"{number}.png")
    return root


@pytest.fixture
def tabled(divided: Path, tmp_path: Path) -> Path:
    """The same images in one folder, with a table."""
    root, lines = tmp_path / "tabled", ["path,label,split"]
    for path in sorted(divided.rglob("*.png")):
        label, split = path.parent.name, path.parent.parent.name
        put(root / "images" / f"{label}{path.name}", path.read_text())
        lines.append(f"images/{label}{path.name},{label},{split}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


# ---- divided -------------------------------------------------------------------------------------------------------


def test_divided_folders(divided: Path) -> None:
    splits = read(divided)
    assert splits.classes == ["ants", "bees"]
    assert splits.splits["val"].paths == ["val/ants/4.png", "val/ants/5.png", "val/bees/4.png", "val/bees/5.png"]
    assert splits.splits["val"].labels == ["ants", "ants", "bees", "bees"]
    assert splits.facts()["counts"] == {
        "train": {"ants": 4, "bees": 4},
        "val": {"ants": 2, "bees": 2},
        "test": {"ants": 1, "bees": 1},
    }
    assert splits.notices() == []


@pytest.mark.parametrize("name", ["valid", "validation", "Validation"])
def test_names_of_the_validation_folder(divided: Path, name: str) -> None:
    (divided / "val").rename(divided / name)
    assert len(read(divided).splits["val"].paths) == 4


def test_val_and_test_may_be_missing_and_other_folders_stand_beside(divided: Path) -> None:
    shutil.rmtree(divided / "val")
    shutil.rmtree(divided / "test")
    (divided / "notes").mkdir()
    assert [len(part.paths) for part in read(divided).splits.values()] == [8, 0, 0]


def test_a_validation_folder_may_lack_a_class_but_not_bring_one(divided: Path) -> None:
    shutil.rmtree(divided / "val" / "ants")
    assert read(divided).splits["val"].labels == ["bees", "bees"]
    put(divided / "val" / "wasps" / "1.png")
    put(divided / "val" / "flies" / "1.png")
    with pytest.raises(DataError, match="val has classes that have no training files: flies, wasps"):
        read(divided)


def test_scanning_is_that_of_class_folders(divided: Path) -> None:
    put(divided / "train" / "ants" / ".hidden.png")
    put(divided / "train" / ".ipynb_checkpoints" / "1.png")
    put(divided / "train" / "ants" / "notes.txt")
    put(divided / "train" / "ants" / "deep" / "1.png", PIXEL + "deep")
    splits = read(divided)
    assert splits.notices() == ["Skipped in train: 1 files of kind .txt."]
    assert splits.splits["train"].paths.count("train/ants/deep/1.png") == 1
    assert len(splits.splits["train"].paths) == 9
    (divided / "test" / "ants" / "0.png").symlink_to("gone")
    with pytest.raises(DataError, match=r"test: broken links.*: ants/0\.png.*goes without a test split"):
        read(divided)


def test_loose_test_images_are_told_what_to_do_with(divided: Path) -> None:
    shutil.rmtree(divided / "test")
    put(divided / "test" / "1.png")
    with pytest.raises(DataError, match=r"no class folders, but loose images.*training goes without a test split"):
        read(divided)


def test_divided_folders_that_cannot_be_used(divided: Path) -> None:
    (divided / "valid").mkdir()
    with pytest.raises(DataError, match="two folders for the val split: val, valid"):
        read(divided)
    (divided / "valid").rmdir()
    shutil.rmtree(divided / "train" / "ants")
    with pytest.raises(DataError, match="a single class, bees"):
        read(divided)
    (divided / "train").rename(divided / "more")
    with pytest.raises(DataError, match="there is test, val, but no train"):
        read(divided)


def test_another_fold_of_divided_data_is_refused(divided: Path, tabled: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: is 2, but the folders of .* divide the data"):
        read(divided, 2)
    with pytest.raises(ConfigError, match=r"data\.fold: is 1, but data\.split_column \(split\) divides the data"):
        read(tabled, 1, table="labels.csv", split_column="split")
    with pytest.raises(ConfigError, match=r"data\.splits_dir: is set, but data\.split_column"):
        read(tabled, table="labels.csv", split_column="split", splits_dir=tabled / "splits")
    with pytest.raises(ConfigError, match=r"data\.split_column: needs data\.table"):
        read(divided, split_column="split")


def test_copies_over_splits_and_under_two_classes_are_told(divided: Path) -> None:
    content = (divided / "train" / "ants" / "1.png").read_text()
    put(divided / "val" / "ants" / "copy.png", content)
    put(divided / "test" / "bees" / "copy.png", content)
    put(divided / "train" / "ants" / "copy.png", (divided / "train" / "ants" / "0.png").read_text())
    assert read(divided).notices() == [
        f"2 files have an exact copy in another split, so scores are too good: {divided}/val/ants/copy.png is "
        f"{divided}/train/ants/1.png, and so on. Remove one of each pair.",
        f"1 file has an exact copy under another class: {divided}/test/bees/copy.png is {divided}/train/ants/1.png. "
        "Remove one of each pair.",
    ]


def test_split_files_come_before_folders_called_like_splits(divided: Path) -> None:
    shutil.copytree(divided / "train", divided / "raw")
    with pytest.raises(DataError, match=r"no split files\. Make them with: ml-split --raw_data .*/raw --folds 5"):
        read(divided)
    split_folder(divided / "raw", folds=2)
    splits = read(divided, 1)
    assert splits.splits["train"].paths[0].startswith("raw/ants/")
    assert any("also has folders called test, train, val" in notice for notice in splits.notices())


def test_a_folder_with_nothing_known_in_it_names_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither split files nor folders called train and val.*run ml-split"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"nowhere: there is no such folder\. Set data\.data_dir"):
        read(tmp_path / "nowhere")


def test_class_folders_in_place_of_the_folder_around_them_are_told(divided: Path) -> None:
    raw = divided / "raw"
    (divided / "train").rename(raw)
    with pytest.raises(DataError) as raised:
        read(raw)
    assert str(raised.value) == (
        f"{raw}: holds class folders (ants, bees) and no split files. Set data.data_dir to the folder around it, "
        f"{divided}, once ml-split --raw_data {raw} has split it."
    )


def test_what_is_listed_must_be_a_file(divided: Path) -> None:
    lists = divided / "splits"
    put(lists / "fold_0_train.txt", "train/ants/0.png\ntrain/bees/0.png\ntrain/bees/pipe.png\n")
    put(lists / "fold_0_val.txt", "val/ants/4.png\n")
    os.mkfifo(divided / "train" / "bees" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png: is named in the split but is no file\. Put it back"):
        read(divided)


# ---- tables --------------------------------------------------------------------------------------------------------


def test_a_split_column_divides_the_table(tabled: Path) -> None:
    splits = read(tabled, table="labels.csv", split_column="split")
    assert splits.splits["test"].paths == ["images/ants6.png", "images/bees6.png"]
    assert splits.splits["test"].labels == ["ants", "bees"]
    assert [len(part.paths) for part in splits.splits.values()] == [8, 4, 2]


def test_lists_divide_the_table_and_its_labels_are_taken(tabled: Path) -> None:
    split_table(tabled / "labels.csv", folds=3, test_ratio=0.2)
    splits = read(tabled, 2, table="labels.csv")
    every = [path for part in splits.splits.values() for path in part.paths]
    assert sorted(every) == sorted(f"images/{path.name}" for path in (tabled / "images").iterdir())
    for part in splits.splits.values():
        assert all(path.startswith(f"images/{label}") for path, label in zip(part.paths, part.labels, strict=True))
    assert splits.digests == {path: content_digest((tabled / path).read_bytes()) for path in every}


def test_rows_added_after_the_split_are_told(tabled: Path) -> None:
    split_table(tabled / "labels.csv", folds=3, test_ratio=0.2)
    assert read(tabled, table="labels.csv").notices() == []
    put(tabled / "images" / "new.png")
    (tabled / "labels.csv").write_text((tabled / "labels.csv").read_text() + "\nimages/new.png,ants,train\n")
    (notice,) = read(tabled, table="labels.csv").notices()
    assert notice.startswith("1 row of labels.csv in no split. To have them too, split again: ml-split --table ")


def test_the_digest_of_a_table_says_labels_too(tabled: Path) -> None:
    before = read(tabled, table="labels.csv", split_column="split").facts()["digest"]
    table = tabled / "labels.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]))
    assert read(tabled, table="labels.csv", split_column="split").facts()["digest"] == before
    table.write_text(table.read_text().replace("ants0.png,ants", "ants0.png,bees"))
    assert read(tabled, table="labels.csv", split_column="split").facts()["digest"] != before


def test_the_digest_of_class_folders_is_that_of_paths_and_contents(divided: Path) -> None:
    splits = read(divided)
    content = {
        split: sorted(
            [f"{split}/{path.parent.name}/{path.name}", content_digest(path.read_bytes())]
            for path in (divided / split).rglob("*.png")
        )
        for split in ("test", "train", "val")
    }
    expected = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert splits.facts()["digest"] == expected


def test_a_table_without_lists_names_the_command(tabled: Path, tmp_path: Path) -> None:
    spaced = tabled.rename(tmp_path / "my data")
    with pytest.raises(DataError) as raised:
        read(spaced, table="labels.csv")
    assert str(raised.value).endswith(f"Make them with: ml-split --table '{spaced}/labels.csv' --folds 5")


def test_rows_taken_out_after_the_split_are_told_with_the_command(tabled: Path) -> None:
    table = tabled / "labels.csv"
    table.write_text(table.read_text().replace("label,", "label,who,").replace("s,t", "s,1,t").replace("s,v", "s,1,v"))
    lines = table.read_text().splitlines()
    rows = [lines[0], *(line.replace(",1,", f",{number},") for number, line in enumerate(lines[1:]))]
    table.write_text("\n".join(rows))
    split_table(table, folds=3, test_ratio=0.2, group_column="who", seed=7, output=tabled / "cut")
    table.write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError) as raised:
        read(tabled, table="labels.csv", splits_dir=tabled / "cut")
    message = str(raised.value)
    assert "not a path inside the data folder that labels.csv names" in message
    assert message.endswith(
        f"ml-split --table {table} --folds 3 --group_column who --test_ratio 0.2 --seed 7 --output {tabled}/cut "
        "--overwrite"
    )


def test_a_table_and_lists_of_folders_are_not_mixed(tabled: Path, divided: Path) -> None:
    split_table(tabled / "labels.csv", folds=3, test_ratio=0.2)
    with pytest.raises(DataError, match=r"made from the table labels\.csv\. Name it with data\.table"):
        read(tabled)
    (divided / "train").rename(divided / "raw")
    split_folder(divided / "raw", folds=2, test_ratio=0)
    shutil.copy(tabled / "labels.csv", divided)
    (divided / "labels.csv").write_text("path,label\nraw/ants/1.png,ants\n")
    with pytest.raises(DataError, match=r"made from class folders, not from a table\. Leave out data\.table"):
        read(divided, table="labels.csv")


def test_a_table_that_is_not_there_is_told_with_the_folder(tabled: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: there is no such table\. .*relative to data\.data_dir"):
        read(tabled, table="none.csv")


def test_a_table_without_training_rows_or_with_one_class_is_refused(tabled: Path) -> None:
    table = tabled / "labels.csv"
    text = table.read_text()
    table.write_text(text.replace(",train", ",val"))
    with pytest.raises(DataError, match="no row has train in the column 'split'"):
        read(tabled, table="labels.csv", split_column="split")
    table.write_text(text.replace(",bees,", ",ants,"))
    with pytest.raises(DataError, match="training has a single class, ants"):
        read(tabled, table="labels.csv", split_column="split")


# ---- the advice of class folders -----------------------------------------------------------------------------------


def test_the_command_names_the_folder_the_folds_and_the_place_of_the_lists(divided: Path, tmp_path: Path) -> None:
    (divided / "train").rename(divided / "all pictures")
    split_folder(divided / "all pictures", folds=2, ratio=(0.5, 0.25, 0.25), output=tmp_path / "cut here")
    next((divided / "all pictures" / "bees").iterdir()).unlink()
    with pytest.raises(DataError) as raised:
        read(divided, splits_dir=tmp_path / "cut here")
    assert "is named in the split but is not there" in str(raised.value)
    assert str(raised.value).endswith(
        f"ml-split --raw_data '{divided}/all pictures' --folds 2 --ratio 0.5 0.25 0.25 --output '{tmp_path}/cut here' "
        "--overwrite"
    )
    with pytest.raises(DataError, match=r"no fold 3; available folds: 0, 1.*--folds 4 .*--overwrite"):
        read(divided, 3, splits_dir=tmp_path / "cut here")


def test_the_advised_command_makes_the_same_lists(divided: Path, tmp_path: Path) -> None:
    (divided / "train").rename(divided / "raw")
    split_folder(divided / "raw", folds=2, ratio=(0.5, 0.25, 0.25), seed=5)
    lists = {path.name: path.read_text() for path in (divided / "splits").glob("*.txt")}
    (divided / "splits" / "fold_1_val.txt").write_text("raw/ants/0.png\n")
    with pytest.raises(DataError) as raised:
        read(divided, 1)
    command = shlex.split(str(raised.value).rsplit(": ", 1)[-1])
    assert main(["split", *command[1:]]) == 0
    assert {path.name: path.read_text() for path in (divided / "splits").glob("*.txt")} == lists


def test_lists_whose_training_lacks_a_class_are_refused(divided: Path) -> None:
    (divided / "train").rename(divided / "raw")
    for name, paths in {"train": ["ants/1", "bees/1"], "val": ["ants/2"]}.items():
        put(divided / "splits" / f"fold_0_{name}.txt", "".join(f"raw/{path}.png\n" for path in paths))
    put(divided / "raw" / "wasps" / "1.png")
    (divided / "splits" / "test.txt").write_text("raw/wasps/1.png\n")
    with pytest.raises(DataError, match="test has classes that have no training files: wasps"):
        read(divided)


def test_labels_that_are_not_those_that_were_split_are_refused(tabled: Path) -> None:
    split_table(tabled / "labels.csv", folds=2, test_ratio=0.25)
    table = tabled / "labels.csv"
    table.write_text(table.read_text().replace("ants0.png,ants", "ants0.png,bees"))
    with pytest.raises(
        DataError, match=r"labels are not those that were split: \w+ had \d+ of 'ants'.*ml-split --table"
    ):
        read(tabled, table="labels.csv")


def test_columns_without_a_table_are_refused(divided: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.label_column: needs data\.table"):
        read_image_splits(divided, 0, splits_dir=None, table=None, columns=TableColumns(label="species"))
