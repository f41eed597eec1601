"""Splitting a table of images from end to end."""

from __future__ import annotations

import csv
import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import PIXEL

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import read_json
from mltrain.workflows.split import SplitResult
from mltrain.workflows.split_table import split_table

Row = tuple[str, str, str]


def write(folder: Path, rows: Iterable[Row], name: str = "labels.csv") -> Path:
    with (folder / name).open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "subject"), *rows])
    return folder / name


def make(folder: Path, rows: Iterable[tuple[str, str, str, str]]) -> list[Row]:
    """Write a file for each (path, label, subject, content) and return the rows."""
    rows = list(rows)
    for path, _, _, content in rows:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(PIXEL + content)
    return [(path, label, subject) for path, label, subject, _ in rows]


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """60 images of two classes; of 30 subjects each has two."""
    return make(
        tmp_path, ((f"images/{i}.png", "cat" if i % 3 else "dog", f"s{i // 2}", f"image {i}") for i in range(60))
    )


def by_content(result: SplitResult, folder: Path) -> list[frozenset[str]]:
    parts = (result.splits.test, *result.splits.validation)
    return [frozenset((folder / path).read_text().removeprefix(PIXEL) for path in part) for part in parts]


def test_it_is_stratified_and_says_where_it_comes_from(tmp_path: Path, rows: list[Row]) -> None:
    result = split_table(write(tmp_path, rows))
    assert (result.outcome, result.folder, result.notices) == ("written", tmp_path / "splits", [])
    label = {path: label for path, label, _ in rows}
    assert Counter(label[path] for path in result.splits.test) == {"cat": 6, "dog": 3}
    for validation in result.splits.validation:
        counts = Counter(label[path] for path in validation)
        assert counts["cat"] in (6, 7)
        assert counts["dog"] in (3, 4)
    facts = read_json(tmp_path / "splits" / "splits.json")
    assert facts["table"] == {"file": "labels.csv", "path_column": "path", "label_column": "label"}
    assert facts["classes"] == ["cat", "dog"]
    assert list(facts["files"]) == sorted(label)
    assert split_table(tmp_path / "labels.csv").outcome == "unchanged"


def test_copies_stay_together(tmp_path: Path, rows: list[Row]) -> None:
    rows += make(tmp_path, ((f"copies/{i}.png", "cat" if i % 3 else "dog", "s", f"image {i}") for i in range(10)))
    result = split_table(write(tmp_path, rows))
    assert result.notices == ["10 files are exact copies of others; copies stay in one split."]
    for part in (result.splits.test, *result.splits.validation):
        assert all((f"copies/{i}.png" in part) == (f"images/{i}.png" in part) for i in range(10))


def test_one_image_under_two_labels_is_refused(tmp_path: Path, rows: list[Row]) -> None:
    rows += make(tmp_path, [("copy.png", "dog", "s", "image 1")])
    with pytest.raises(DataError, match=r"same content under two classes \(1 pair\): copy\.png = images/1\.png"):
        split_table(write(tmp_path, rows))


def test_a_single_label_and_wrong_shares_are_refused(tmp_path: Path, rows: list[Row]) -> None:
    table = write(tmp_path, [(path, "cat", subject) for path, _, subject in rows])
    with pytest.raises(DataError, match="a single class, cat; at least two are needed"):
        split_table(table)
    with pytest.raises(ConfigError, match="--folds: 1 folds"):
        split_table(table, folds=1)
    assert not (tmp_path / "splits").exists()


def test_too_few_groups_are_refused(tmp_path: Path, rows: list[Row]) -> None:
    table = write(tmp_path, [(path, label, str(number % 4)) for number, (path, label, _) in enumerate(rows)])
    with pytest.raises(DataError, match="is in 4 separate groups only; 5 folds and a test set need 6"):
        split_table(table, group_column="subject")


# Each subject has an image or more of each class; some contents are copied, up to two of them to another subject.
subjects = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.booleans()), min_size=14, max_size=20)


@given(sizes=subjects, joined=st.integers(0, 2), folds=st.integers(2, 3), seed=st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("group_column", ["subject", None])
def test_groups_and_copies_are_on_one_side_and_the_order_of_rows_does_not_matter(
    group_column: str | None, sizes: list[tuple[int, int, bool]], joined: int, folds: int, seed: int
) -> None:
    images = [
        (f"{subject}{label}{number}{copy}.png", label, f"s{subject}", f"{label}{number} of {subject}")
        for subject, (a, b, copied) in enumerate(sizes)
        for label, count in (("a", a), ("b", b))
        for number in range(count)
        for copy in range(1 + copied)
    ]
    images += [(f"joined{i}.png", "a", f"s{i + 1}", f"a0 of {i}") for i in range(joined)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = make(folder, images)
        result = split_table(write(folder, rows), group_column=group_column, folds=folds, seed=seed)
        parts = by_content(result, folder)
        assert sum(map(len, parts)) == len(frozenset().union(*parts))
        assert frozenset().union(*parts) == {content for *_, content in images}
        sides = [(result.splits.test, 0), *((part, k + 1) for k, part in enumerate(result.splits.validation))]
        side = {path: number for part, number in sides for path in part}
        if group_column is not None:
            assert len({(subject, side[path]) for path, _, subject in rows}) == len(sizes)
        random.Random(seed).shuffle(rows)
        again = split_table(write(folder, rows), group_column=group_column, folds=folds, seed=seed)
        assert again.outcome == "unchanged"
