"""Splitting the rows of a table from end to end, and reading the splits back."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import read_json
from mltrain.data.tables.columns import Column
from mltrain.data.tables.row_splits import RowSplits, read_row_splits
from mltrain.data.tables.table_format import TableFormat
from mltrain.workflows.split_rows import split_rows

Row = Sequence[object]
TEXT, LABEL = Column("text", "data.text_column", "text"), Column("label", "data.label_column", "label")
HEADER = ("text", "label", "who")


def write(folder: Path, rows: Iterable[Row], header: Row = HEADER, name: str = "data.csv") -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return folder / name


def read(file: Path, fold: int = 0, **arguments: Any) -> RowSplits:
    arguments = {"splits_dir": None, "split_column": None, "columns": [TEXT, LABEL], "label": "label", **arguments}
    return read_row_splits(file.parent, file.name, fold, **arguments)


def texts(splits: RowSplits) -> dict[str, list[str]]:
    values = splits.values("text")
    return {split: [values[row] for row in rows] for split, rows in splits.splits.items()}


@pytest.fixture
def rows() -> list[Row]:
    """60 rows of two labels; of 30 people each has two."""
    return [(f"text {i}", "spam" if i % 3 == 0 else "ham", f"p{i // 2}") for i in range(60)]


def test_each_row_is_in_one_place_stratified_and_the_order_of_rows_changes_nothing(
    tmp_path: Path, rows: list[Row]
) -> None:
    file = write(tmp_path, rows)
    result = split_rows(file, label="label")
    assert (result.outcome, result.folder, result.notices) == ("written", tmp_path / "splits", [])
    folds = [read(file, fold) for fold in range(5)]
    validation = [text for splits in folds for text in texts(splits)["val"]]
    assert sorted(validation + texts(folds[0])["test"]) == sorted(str(row[0]) for row in rows)
    for splits in folds:
        assert splits.classes() == ["ham", "spam"]
        assert splits.facts()["counts"]["test"] == {"ham": 6, "spam": 3}
        assert splits.facts()["counts"]["val"]["ham"] in (6, 7)
        assert splits.notices() == []
    mixed = random.Random(0).sample(rows, len(rows))
    assert split_rows(write(tmp_path, mixed), label="label").outcome == "unchanged"
    again = read(file)
    assert texts(again) == texts(folds[0])
    assert again.facts() == folds[0].facts()
    assert list(again.files()) == list(folds[0].files())
    assert read_json(tmp_path / "splits" / "splits.json")["table"] == {
        "rows": True,
        "file": "data.csv",
        "columns": ["label", "text", "who"],
        "label": "label",
        "group": None,
        "content": ["text", "who"],
        "bins": None,
    }


PART = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(PART, st.sampled_from(["x", "y"]), PART), min_size=12, max_size=60),
    st.booleans(),
    st.integers(0, 3),
    st.randoms(),
)
def test_no_row_is_lost_groups_and_equal_rows_stay_whole_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], grouped: bool, seed: int, draw: Any
) -> None:
    folder = tmp_path_factory.mktemp("property")
    file = write(folder, rows)
    options: dict[str, Any] = {"label": "label", "content": ["text"], "folds": 2, "seed": seed, "test_ratio": 0.2}
    if grouped:
        options["group"] = "who"
    try:
        split_rows(file, **options)
    except DataError:
        # A few groups of a few classes cannot always be dealt out; whether they can does not depend on the order.
        draw.shuffle(rows)
        with pytest.raises(DataError):
            split_rows(write(folder, rows), **options)
        return
    folds = [read(file, fold) for fold in range(2)]
    homes: defaultdict[int, list[str]] = defaultdict(list)
    for row in folds[0].splits["test"].tolist():
        homes[row].append("test")
    for number, fold in enumerate(folds):
        assert set(fold.splits["train"].tolist()).isdisjoint(fold.splits["val"].tolist())
        assert sum(map(len, fold.splits.values())) == len(rows)
        for row in fold.splits["val"].tolist():
            homes[row].append(f"fold {number}")
    assert sorted(homes) == list(range(len(rows)))
    assert all(len(places) == 1 for places in homes.values())
    for key in (0, 2) if grouped else (0,):
        sides: defaultdict[object, set[str]] = defaultdict(set)
        for row, (place,) in homes.items():
            sides[rows[row][key]].add(place)
        assert all(len(places) == 1 for places in sides.values())
    order = list(range(len(rows)))
    draw.shuffle(order)
    assert split_rows(write(folder, [rows[k] for k in order]), **options).outcome == "unchanged"


def test_equal_rows_and_one_text_under_two_labels_stay_on_one_side(tmp_path: Path, rows: list[Row]) -> None:
    copies = [(text, label, "else") for text, label, _ in rows[:20]]
    other = [(rows[0][0], "ham", "x"), (rows[1][0], "spam", "x")]
    file = write(tmp_path, [*rows, *copies, *other])
    result = split_rows(file, label="label", content=["text"])
    # Rows of one text and two labels are no copies.
    assert result.notices == ["20 rows are copies of others in text; copies stay in one split."]
    homes: defaultdict[str, set[str]] = defaultdict(set)
    for fold in range(5):
        parts = texts(read(file, fold))
        for split in ("val", "test"):
            for text in parts[split]:
                homes[text].add(f"{split} {fold}" if split == "val" else "test")
    assert all(len(places) == 1 for places in homes.values())
    assert read(file).notices() == []


def test_copies_that_the_split_did_not_know_of_are_told_when_the_task_sees_them(
    tmp_path: Path, rows: list[Row]
) -> None:
    file = write(tmp_path, [*rows, *((text, label, f"new {k}") for k, (text, label, _) in enumerate(rows))])
    split_rows(file, label="label")
    (notice,) = read(file).notices()
    assert "a copy in another split, equal in all that the model sees" in notice
    assert "ml-split --content text keeps such rows together" in notice


def test_numbers_are_stratified_by_bins(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(size=300)
    file = write(tmp_path, [(f"t{k}", f"{value:.6f}", "") for k, value in enumerate(values)])
    result = split_rows(file, label="label")
    assert read_json(tmp_path / "splits" / "splits.json")["table"]["bins"] == 10
    counts = result.splits.counts()
    assert len(counts) == 10
    assert all(row["test"] in (4, 5) and row["fold_0_val"] in (5, 6) for row in counts.values())
    number = Column("label", "data.target", "number", target=True)
    means = [
        np.mean([splits.values("label")[row] for row in splits.splits["val"].tolist()])
        for splits in (read(file, fold, columns=[TEXT, number], label=None) for fold in range(5))
    ]
    # Means of 51 of these values drawn at random scatter by 0.04.
    assert np.std(means) < 0.01
    split_rows(file, label="label", bins=3, overwrite=True)
    assert read_json(tmp_path / "splits" / "splits.json")["table"]["bins"] == 3
    with pytest.raises(DataError, match="other splits"):
        split_rows(file, label="label", seed=7)


def test_rows_may_be_split_without_strata(tmp_path: Path, rows: list[Row]) -> None:
    result = split_rows(write(tmp_path, rows), folds=3, test_ratio=0.1)
    assert result.splits.classes == ["all rows"]
    assert result.splits.counts()["all rows"]["test"] == 6
    number = Column("label", "data.label_column", "label")
    assert len(read(tmp_path / "data.csv", columns=[TEXT, number]).splits["test"]) == 6


def test_a_changed_table_is_told_row_by_row(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    split_rows(file, label="label", folds=2)
    changed = [*rows]
    changed[3] = ("other text", *rows[3][1:])
    write(tmp_path, changed)
    with pytest.raises(DataError) as raised:
        read(file)
    assert raised.value.problems == [
        f"{file}:5: this row was not there when the table was split.",
        f"{file}: the table has changed: 1 row that was split is not in it any more ({tmp_path / 'splits'}). Put the "
        f"old table back, or split again: ml-split --table {file} --label label --folds 2 --overwrite",
    ]
    write(tmp_path, rows[:-2])
    with pytest.raises(DataError, match="2 rows that were split are not in it any more"):
        read(file)
    write(tmp_path, [*rows, ("new", "ham", "p")])
    (remark,) = read(file).notices()
    assert remark.startswith(f"1 row of {file} in no split, the first at {file}:62. To have them too, split again: ")


def test_a_further_column_changes_nothing_and_a_lost_one_is_told(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    split_rows(file, label="label")
    before = read(file)
    write(tmp_path, [(*row, k) for k, row in enumerate(rows)], (*HEADER, "note"))
    assert texts(read(file)) == texts(before)
    assert read(file).facts() == before.facts()
    write(tmp_path, [row[:2] for row in rows], HEADER[:2])
    with pytest.raises(DataError, match="there is no column 'who'"):
        read(file)


def test_a_group_stays_whole_and_stands_in_the_command(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    split_rows(file, label="label", group="who", folds=3, ratio=[0.6, 0.2, 0.2])
    splits = read(file)
    who = {str(row[0]): row[2] for row in rows}
    people = [{who[text] for text in part} for part in texts(splits).values()]
    assert sum(map(len, people)) == len(set.union(*people)) == 30
    write(tmp_path, rows[1:])
    with pytest.raises(
        DataError, match=r"ml-split --table \S+ --label label --group who --folds 3 --ratio 0.6 0.2 0.2"
    ):
        read(file)


def test_without_split_files_the_command_is_told(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    with pytest.raises(DataError) as raised:
        read(file)
    assert raised.value.fix == f"Make them with: ml-split --table {file} --label label --content text --folds 5"
    with pytest.raises(DataError, match=r"--rows --content text --folds 5 --output \S*elsewhere"):
        read(file, columns=[TEXT], label=None, splits_dir=tmp_path / "elsewhere")
    number = Column("label", "data.target", "number", target=True)
    # What ml-split takes by itself, all but the label, is not named; 5 folds are its own too.
    with pytest.raises(DataError, match=r"data.csv --label label --folds 7$"):
        read(file, 6, columns=[TEXT, Column("who", "k", "category"), number], label=None)


def test_the_splits_of_images_or_folders_are_not_those_of_rows(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    split_rows(file, label="label", folds=2)
    facts = tmp_path / "splits" / "splits.json"
    text = facts.read_text()
    facts.write_text(text.replace('"rows": true', '"rows": false'))
    with pytest.raises(DataError, match=r"these splits are of the images of data\.csv"):
        read(file)
    facts.write_text(text.replace('"table":', '"other":'))
    with pytest.raises(DataError, match="made from class folders"):
        read(file)


def test_lists_made_by_hand_need_no_metadata(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    split_rows(file, label="label", folds=2)
    expected = texts(read(file))
    (tmp_path / "splits" / "splits.json").unlink()
    assert texts(read(file)) == expected


def test_bad_rows_are_told_with_their_lines_or_left_out(tmp_path: Path, rows: list[Row]) -> None:
    bad = [*rows]
    for line in range(12):
        bad[line] = (f"t{line}", "" if line % 2 else "NaN", "p")
    file = write(tmp_path, bad)
    file.write_text(file.read_text() + "a,b,c,d\n")
    with pytest.raises(DataError) as raised:
        split_rows(file, label="label")
    problems = raised.value.problems
    assert problems[0] == f"{file}:2: the column 'label' has 'NaN'. Fill it in, or take the row out."
    assert problems[9].startswith(f"{file}:11: the column 'label' has no value.")
    assert problems[10:] == [
        f"{file}: 3 more rows have problems.",
        f"{file}: --on_bad_rows skip leaves such rows out.",
    ]
    result = split_rows(file, label="label", on_bad_rows="skip")
    assert len(result.splits.files) == 48
    assert result.notices[0].startswith(f"13 rows are left out: {file}:2: the column 'label' has 'NaN'.")
    with pytest.raises(DataError, match="the row has 4 fields"):
        read(file)
    whole = file.read_text()
    file.write_text(whole.replace("text 50,", "text, 50,"))
    with pytest.raises(DataError, match=r"data\.csv:52: the row has 4 fields"):  # not: a row is gone
        read(file)
    file.write_text(whole)
    splits = read(file, on_bad_rows="skip")
    assert sum(map(len, splits.splits.values())) == 48


def test_what_a_task_checks_is_told_and_may_be_left_out(tmp_path: Path, rows: list[Row]) -> None:
    file = write(tmp_path, rows)
    split_rows(file, label="label", folds=2)

    def check(row: Any) -> str | None:
        assert set(row) == {"text", "label"}
        return "the text is too short. Take it out." if row["text"].endswith(" 7") else None

    with pytest.raises(DataError) as raised:
        read(file, check=check)
    assert raised.value.problems == [
        f"{file}:9: the text is too short. Take it out.",
        f"{file}: data.on_bad_rows=skip leaves such rows out.",
    ]
    splits = read(file, check=check, on_bad_rows="skip")
    assert sum(map(len, splits.splits.values())) == 59
    assert splits.facts()["left_out"] == {f"{file}:9": "the text is too short. Take it out."}
    assert splits.notices() == [f"1 row is left out: {file}:9: the text is too short. Take it out."]


def test_a_column_may_divide_the_table(tmp_path: Path, rows: list[Row]) -> None:
    parts = ["train", "Training", "valid", "test"]
    header = (*HEADER, "part")
    file = write(tmp_path, [(*row, parts[k % 4]) for k, row in enumerate(rows)], header)
    splits = read(file, split_column="part")
    assert {split: len(numbers) for split, numbers in splits.splits.items()} == {"train": 30, "val": 15, "test": 15}
    ids = [splits.ids[row] for row in splits.splits["train"].tolist()]
    assert ids == sorted(ids)
    for arguments, message in (
        ({"fold": 1}, r"data\.fold: is 1, but data\.split_column \(part\) divides the data"),
        ({"splits_dir": tmp_path}, r"data\.splits_dir: is set, but"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(file, split_column="part", **arguments)
    file = write(tmp_path, [(*row, "" if k == 5 else "train") for k, row in enumerate(rows)], header)
    with pytest.raises(DataError, match=r"data.csv:7: the column 'part' has no value. Write train, val or test"):
        read(file, split_column="part")
    file = write(tmp_path, [(*row, "val") for row in rows], header)
    with pytest.raises(DataError, match="no row has train in the column 'part'"):
        read(file, split_column="part")


def test_classes_must_be_at_least_two_and_those_of_training(tmp_path: Path) -> None:
    header = ("text", "label", "part")
    rows = [("a", "x", "train"), ("b", "x", "train"), ("c", "y", "val")]
    with pytest.raises(DataError, match="training has a single class in the column 'label', x"):
        read(write(tmp_path, rows, header), split_column="part").classes()
    with pytest.raises(DataError, match="val has classes in the column 'label' that have no training rows: z"):
        read(write(tmp_path, [*rows, ("d", "y", "train"), ("e", "z", "val")], header), split_column="part").classes()
    splits = read(write(tmp_path, [*rows, ("d", "Y", "train"), ("f", "y", "train")], header), split_column="part")
    assert splits.classes() == ["Y", "x", "y"]
    assert [notice.partition(".")[0] for notice in splits.notices()] == [
        f"{tmp_path / 'data.csv'}: val has no row of Y, x, so its figures say nothing of them".partition(".")[0],
        "The classes 'Y', 'y' look alike and are learned as 2",
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"label": "lable"}, DataError, r"Did you mean 'label'\? Name the column with --label"),
        ({"label": "label", "group": "whom"}, DataError, "Did you mean 'who'"),
        ({"label": "label", "content": ["txt"]}, DataError, r"Name the column with --content"),
        ({"label": "label", "bins": 4}, ConfigError, "--bins: is for numbers; '(ham|spam)' is a label"),
        ({"bins": 4}, ConfigError, "--bins: is for a numeric label"),
        ({"label": "label", "folds": 1}, ConfigError, "--folds"),
        ({"label": "one"}, DataError, "'one' has a single class, 1; at least two are needed"),
        ({"label": "label", "content": ["one"]}, DataError, "has 1 different row|in 1 separate group only"),
        ({"label": "text"}, DataError, r"class 'text \d+' is in 1 separate group only"),
        ({"label": "rare"}, DataError, r"class '1' has 1 different row: too few for 5 folds. Add rows to the class"),
    ],
)
def test_what_cannot_be_split_is_refused(
    tmp_path: Path, rows: list[Row], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    file = write(tmp_path, [(*row, 1, int(k == 7)) for k, row in enumerate(rows)], (*HEADER, "one", "rare"))
    with pytest.raises(error, match=message):
        split_rows(file, **{"test_ratio": 0, **arguments})
    assert not (tmp_path / "splits").exists()


def test_a_list_without_a_header_is_split_and_read_with_the_names_that_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "sms.tsv"
    file.write_text("".join(f'{"spam" if k % 3 else "ham"}\tsay "{k}\n' for k in range(30)))
    split_rows(file, label="label", column_names=["label", "text"], quoting="none", folds=2)
    splits = read(file, table_format=TableFormat(("label", "text"), "none"))
    assert len(splits.splits["train"]) + len(splits.splits["val"]) + len(splits.splits["test"]) == 30
    file.write_text(file.read_text() + 'ham\t"\n', newline="")
    assert "--column_names label text --quoting none --folds 2 --overwrite" in splits_again(file)


def splits_again(file: Path) -> str:
    (notice,) = read(file, table_format=TableFormat(("label", "text"), "none")).notices()
    return notice
