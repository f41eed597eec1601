"""Tables of all formats: what is read, where each row stands, and what is refused with its line."""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import SHARED_DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.tables import stored_rows
from mltrain.data.tables.table import Table, read_table
from mltrain.data.tables.table_format import TableFormat

LIST = TableFormat(("label", "text"), "none")


def write(folder: Path, name: str, text: str | bytes) -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def values(table: Table) -> dict[str, list[Any]]:
    return {name: table.column(name, "key") for name in table.columns}


def refused(file: Path, table_format: TableFormat | None = None) -> str:
    with pytest.raises(DataError) as raised:
        read_table(file, table_format)
    return str(raised.value)


def test_texts_stay_as_they_stand_with_the_line_of_each_row(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.csv", '\ufefflabel , text,\n01," two\nlines, "" "\n\n1,,x\n'))
    assert values(table) == {"label": ["01", "1"], "text": [' two\nlines, " ', None]}
    assert [table.place(row) for row in (0, 1)] == [f"{table.file}:2", f"{table.file}:5"]
    assert len(table.rows) == len(table) == 2


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.txt", "\t"), ("a.tsv", "\t")])
def test_delimiters(tmp_path: Path, name: str, delimiter: str) -> None:
    assert values(read_table(write(tmp_path, name, f"a{delimiter}b\n1{delimiter}2\n"))) == {"a": ["1"], "b": ["2"]}


def test_a_list_without_a_header_and_with_loose_quotes(tmp_path: Path) -> None:
    file = write(tmp_path, "sms.tsv", 'ham\t"Hi" he said\nspam\tcall " now\nham\t"\n')
    assert values(read_table(file, LIST)) == {
        "label": ["ham", "spam", "ham"], "text": ['"Hi" he said', 'call " now', '"']
    }  # fmt: skip
    assert "sms.tsv:1: the row cannot be read" in refused(file)
    assert "data.quoting=none (--quoting none in ml-split)" in refused(file)
    no_names = read_table(write(tmp_path, "plain.tsv", "ham\thello\nspam\tfree\n"))
    with pytest.raises(DataError, match=r"no column 'text'; columns: ham, hello\. .*data\.column_names"):
        no_names.column("text", "data.text_column")


def test_what_pandas_writes_is_the_same_in_every_format(tmp_path: Path) -> None:
    frame = pandas.DataFrame({
        "whole": [1, 2, 3], "gaps": [1.0, None, 2.5], "flag": [True, False, True], "text": ["a\nb", None, 'say "x"']
    })  # fmt: skip
    frame.to_csv(tmp_path / "a.csv")
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.astype({"text": "category"}).to_parquet(tmp_path / "b.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    expected = {
        "whole": ["1", "2", "3"],
        "gaps": ["1.0", None, "2.5"],
        "flag": ["True", "False", "True"],
        "text": ["a\nb", None, 'say "x"'],
    }
    for name in ("a.csv", "a.tsv", "a.parquet", "b.parquet", "a.jsonl"):
        assert values(read_table(tmp_path / name)) == expected, name
    assert read_table(tmp_path / "a.parquet").place(1) == f"{tmp_path / 'a.parquet'}, row 2"


def test_json_lines_keep_numbers_as_they_are_written(tmp_path: Path) -> None:
    text = '{"a": 1.50, "b": "x"}\n\n[1]\n{"a": NaN, "c": [1, {"d": "é"}]}\n{bad\n{"c": ""}\n'
    table = read_table(write(tmp_path, "a.jsonl", text))
    assert values(table) == {"a": ["1.50", None, None], "b": ["x", None, None], "c": [None, '[1, {"d": "é"}]', ""]}
    assert table.place(2).endswith("a.jsonl:6")
    assert [row.place for row in table.bad.first] == [3, 5]
    assert table.bad.count == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv: the table is empty. Begin it with a line of column names."),
        ("a.csv", "a,b\n", "a.csv: the table has no rows."),
        ("a.csv", "a,b,a\n1,2,3\n", "a.csv:1: 2 columns are called 'a'."),
        ("a.csv", b"a,b\n1,2\n\xe9,2\n", "a.csv:3: the table cannot be read (not UTF-8)."),
        ("a.csv", 'a,b\n1,2\n"x,2\n1,2\n', "a.csv:3: the row cannot be read (unexpected end of data)."),
        ("a.xlsx", "x", "a.xlsx: a file of kind .xlsx is not read as a table."),
        (
            "a.jsonl",
            '{"a": "\\ud83d cut"}',
            "a.jsonl:1: no line can be read; the line holds U+D83D, which is half of a",
        ),
        ("a.json", '[{"a": 1}]', "a.json:1: the file begins with a JSON array"),
        ("a.parquet", "no parquet at all", "a.parquet: the table cannot be read (Parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert message in refused(write(tmp_path, name, content))


def test_a_missing_file_a_folder_and_a_needless_format_are_refused(tmp_path: Path) -> None:
    assert "there is no such table" in refused(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is no file" in refused(tmp_path / "folder.csv")
    with pytest.raises(ConfigError, match=r"data\.quoting: is for files of separated values, not for a\.jsonl"):
        read_table(write(tmp_path, "a.jsonl", '{"a": 1}'), TableFormat(quoting="none"))


def test_rows_of_other_width_are_kept_for_who_asks(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "a.csv", "a,b\n1,2\n1,2,3\n4\n"))
    assert values(table) == {"a": ["1", "4"], "b": ["2", None]}
    assert [(row.place, row.what) for row in table.bad.first] == [
        (3, "the row has 3 fields, the first line has 2. Put values with delimiters in quotes.")
    ]


def test_a_document_may_be_long(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    table = read_table(write(tmp_path, "a.csv", "text\n" + "x" * 300_000 + "\n"))
    assert len(table.column("text", "key")[0]) == 300_000
    assert csv.field_size_limit() == usual


def test_a_table_is_read_once_until_its_content_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    read: list[Path] = []
    real = stored_rows._reader
    monkeypatch.setattr(stored_rows, "_reader", lambda file, *rest: read.append(file) or real(file, *rest))
    file = write(tmp_path, "a.csv", "a\n1\n")
    for _ in range(2):
        assert values(read_table(file)) == {"a": ["1"]}
    assert len(read) == 1
    write(tmp_path, "b.csv", "a\n1\n")
    read_table(tmp_path / "b.csv")  # equal content under another name
    assert len(read) == 1
    write(tmp_path, "a.csv", "a\n2\n")
    assert values(read_table(file)) == {"a": ["2"]}
    assert len(read) == 2
    monkeypatch.setattr(stored_rows, "_READER", 0)
    read_table(file)
    assert len(read) == 3


def test_a_damaged_entry_is_made_anew_and_what_a_killed_process_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    file = write(tmp_path, "a.csv", "a\n1\n2\n")
    read_table(file)
    (entry,) = (path for path in (tmp_path / "cache" / "tables").iterdir() if path.is_dir())
    leftover = entry.with_name(f".new-{entry.name}-x")
    leftover.mkdir()
    for name in ("rows.arrow", "places.npy", "table.json"):
        content = (entry / name).read_bytes()
        (entry / name).write_bytes(content[: len(content) // 2])
        assert values(read_table(file)) == {"a": ["1", "2"]}
        assert (entry / name).read_bytes() == content
    assert not leftover.exists()


def test_without_a_cache_rows_lie_in_a_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "cache", "a file")
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    assert values(read_table(write(tmp_path, "a.csv", "a\n1\n"))) == {"a": ["1"]}
    assert "cannot be used" in caplog.text


def _read(file: Path) -> list[Any]:
    return read_table(file).column("a", "key")


def test_many_processes_may_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "cache"))
    file = write(tmp_path, "a.csv", "a\n" + "".join(f"{number}\n" for number in range(20_000)))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = pool.map(_read, [file] * 6)
    assert all(result == [str(number) for number in range(20_000)] for result in results)
    assert len([path for path in (tmp_path / "cache" / "tables").iterdir() if path.is_dir()]) == 1


@pytest.mark.shared_data
def test_the_sms_spam_collection_as_it_is_published() -> None:
    file = SHARED_DATA / "sms_spam.tsv"
    if not file.is_file():
        pytest.skip(f"the messages are not at {file}")
    table = read_table(file, LIST)
    assert len(table) == 5574
    assert Counter(table.column("label", "key")) == {"ham": 4827, "spam": 747}
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [f"{a}\t{b}" for a, b in zip(*values(table).values(), strict=True)] == lines
    assert "sms_spam.tsv:283: the row cannot be read" in refused(file)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1).filter(str.strip)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
def test_csv_and_json_lines_read_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("x", "y"), *rows])
    with (folder / "a.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"x": x, "y": y}) + "\n" for x, y in rows)
    expected = {"x": [x for x, _ in rows], "y": [y for _, y in rows]}
    assert values(read_table(folder / "a.csv")) == values(read_table(folder / "a.jsonl")) == expected
