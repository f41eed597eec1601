"""Tables of paths and labels: what is read, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from mltrain.core.errors import DataError
from mltrain.data.image_table import ImageTable, TableColumns, read_image_table

HEADER = "path,label"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for number in range(20):
        (folder / "images" / f"{number}.png").write_text(f"image {number}")
    return folder


def read(root: Path, *lines: str, name: str = "labels.csv", columns: TableColumns | None = None) -> ImageTable:
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_image_table(root / name, root, columns or TableColumns())


def refused(root: Path, *lines: str, columns: TableColumns | None = None) -> list[str]:
    """Return the problems, each without the table's path."""
    with pytest.raises(DataError) as raised:
        read(root, *lines, columns=columns)
    table = str(root / "labels.csv")
    assert all(problem.startswith(table) for problem in raised.value.problems)
    return [problem.removeprefix(table) for problem in raised.value.problems]


def test_rows_keep_their_order_lines_and_texts(root: Path) -> None:
    lines = ["label, path ,x", "01,images/1.png,a", "", ' cat ,"images/2.png","two', 'lines"', "1,./images//3.png,c"]
    table = read(root, *lines)
    assert [(row.path, row.label, row.line) for row in table.rows] == [
        ("images/1.png", "01", 2),
        ("images/2.png", "cat", 4),
        ("images/3.png", "1", 6),
    ]
    assert table.labels["images/1.png"] == "01"


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_delimiters(root: Path, name: str, delimiter: str) -> None:
    table = read(root, f"path{delimiter}label", f"images/1.png{delimiter}cat", name=name)
    assert table.labels == {"images/1.png": "cat"}


def test_a_table_of_pandas_with_a_byte_order_mark_and_other_columns(root: Path) -> None:
    rows = {"file": ["images/1.png", "images/2.png"], "kind": [1, 2], "who": ["x", "y"], "use": ["Train", "valid"]}
    pandas.DataFrame(rows).to_csv(root / "t.csv", encoding="utf-8-sig")
    table = read_image_table(root / "t.csv", root, TableColumns("file", "kind", "who", "use"))
    assert [(row.label, row.group, row.split) for row in table.rows] == [("1", "x", "train"), ("2", "y", "val")]


def test_every_problem_is_told_with_its_line(root: Path) -> None:
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root.parent / "secret.png").write_text("x")
    (root / "elsewhere").symlink_to(root.parent, target_is_directory=True)
    problems = refused(
        root,
        HEADER,
        "images/99.png,cat",
        "images/1.png,cat",
        "images/1.png,cat",
        "./images/1.png,dog",
        "images/2.png,",
        "images/3.png,NaN",
        "../secret.png,cat",
        f"{root.parent}/secret.png,cat",
        "out.png,cat",
        "elsewhere/secret.png,cat",
    )
    assert [problem.split(". ")[0] for problem in problems] == [
        f":2: there is no file 'images/99.png' in {root}",
        ":4: 'images/1.png' stands in line 3 already",
        ":5: 'images/1.png' is labelled 'dog' here and 'cat' in line 3",
        ":6: the column 'label' has no value",
        ":7: the column 'label' has 'NaN'",
        ":8: '../secret.png' leads out of the data folder",
        f":9: '{root.parent}/secret.png' leads out of the data folder",
        f":10: 'out.png' is a link that leads out of the data folder {root}",
        f":11: 'elsewhere/secret.png' is a link that leads out of the data folder {root}",
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("images,cat", "'images' is a folder or a special file"),
        ("notes.txt,cat", "'notes.txt' is no image file (kind .txt)"),
        ("images\\1.png,cat", "there is no file 'images\\1.png' in"),
        ("C:\\images\\1.png,cat", "'C:\\images\\1.png' leads out of the data folder"),
        ("\\\\server\\1.png,cat", "'\\\\server\\1.png' leads out of the data folder"),
        (f"{'x' * 2000},cat", "the column 'path' has a value of 2000 characters. Mend it, or the quotes around it."),
        ("loop.png,cat", "no access to the file 'loop.png'"),
        ('"images/1.png","two\nlines"', "'two\\nlines' holds line breaks or control characters"),
        ("images/1.png,cat,extra", "the row has 3 fields, the first line has 2"),
        ("images/1.png", "the column 'label' has no value"),
        (",cat", "the column 'path' has no value"),
        ("images/\0.png,cat", "'images/\\x00.png' holds line breaks or control characters"),
        ('images/"1.png,"cat', "the row cannot be read"),
    ],
)
def test_rows_that_cannot_be_used(root: Path, row: str, problem: str) -> None:
    (root / "notes.txt").write_text("x")
    (root / "loop.png").symlink_to(root / "loop.png")
    problems = refused(root, HEADER, "images/5.png,dog", row)
    assert len(problems) == 1
    assert problems[0].startswith(f":3: {problem}")


def test_links_that_stay_inside_are_followed(root: Path) -> None:
    (root / "link.png").symlink_to("images/1.png")
    (root / "folder").symlink_to("images", target_is_directory=True)
    assert len(read(root, HEADER, "link.png,cat", "folder/2.png,dog").rows) == 2


def test_a_data_folder_that_is_itself_a_link_is_no_way_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert len(read(tmp_path / "link", HEADER, "images/1.png,cat").rows) == 1


def test_ten_problems_are_shown_and_the_rest_counted(root: Path) -> None:
    problems = refused(root, HEADER, *(f"images/no{number}.png,cat" for number in range(25)))
    assert len(problems) == 11
    assert problems[-1] == ": 15 more rows have problems."
    assert refused(root, HEADER, *(f"no{n}.png,cat" for n in range(11)))[-1] == ": 1 more row has a problem."


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("paths,label", "Did you mean 'paths'?"),
        ("Path,label", "Did you mean 'Path'?"),
        ("image_path,label", "Did you mean 'image_path'?"),
        ("images/0.png,cat", "names no columns, but an image: images/0.png, cat. Put a line of column names above it"),
        ("a,b", "columns: a, b. Name the column with --path_column in ml-split and data.path_column"),
    ],
)
def test_a_missing_column_is_told_with_the_nearest(root: Path, header: str, hint: str) -> None:
    (problem,) = refused(root, header, "images/1.png,cat")
    assert problem.startswith((":1: there is no column 'path'", ":1: the first line names no columns"))
    assert hint in problem


def test_a_missing_group_and_a_column_that_is_there_twice(root: Path) -> None:
    (problem,) = refused(root, "path,label,subjects", "images/1.png,a,b", columns=TableColumns(group="subject"))
    assert "'subjects'?" in problem
    assert problem.endswith("Did you mean 'subjects'? Name the column with --group_column.")
    assert "2 columns are called 'label'" in refused(root, "path,label,label", "images/1.png,a,b")[0]


def test_a_split_that_is_none(root: Path) -> None:
    columns = TableColumns(split="split")
    (problem,) = refused(root, "path,label,split", "images/1.png,a,dev", columns=columns)
    assert problem == ":2: 'dev' is no split. Write train, val or test."
    (problem,) = refused(root, "path,label,split", "images/1.png,a,", columns=columns)
    assert ":2: the column 'split' has no value" in problem


def test_tables_that_cannot_be_read(root: Path) -> None:
    assert "the table is empty" in refused(root, "")[0]
    assert "the table has no rows" in refused(root, HEADER, ",")[0]
    (root / "latin.csv").write_bytes("path,label\nimages/1.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv: the table cannot be read \(not UTF-8\)"):
        read_image_table(root / "latin.csv", root, TableColumns())
    with pytest.raises(DataError, match=r"none\.csv: the table cannot be read \(No such file"):
        read_image_table(root / "none.csv", root, TableColumns())
