"""The command `ml-split` on the rows of a table: its arguments, what it prints and which go together."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mltrain.cli import split
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import read_json


def ml_split(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="ml-split")
    split.add_arguments(parser)
    return split.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """60 rows of two labels and 15 people, the first of them twice."""
    lines = [f"text {k},{'ab'[k % 2]},p{k // 4},{k / 7}" for k in range(60)]
    file = tmp_path / "data.csv"
    file.write_text("\n".join(["text,label,who,value", *lines, lines[0]]))
    return file


def test_the_counts_and_the_copies_are_printed(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ml_split("--table", table, "--label", "label", "--folds", 2, "--test_ratio", 0.1) == 0
    printed = capsys.readouterr().out
    assert [line.split()[:3] for line in printed.splitlines()[:4]] == [
        ["class", "rows", "test"],
        [printed.splitlines()[1]],
        ["a", "31", "3"],
        ["b", "30", "3"],
    ]
    assert "2-fold: each of the 55 rows that are not test is in exactly one validation fold." in printed
    assert "1 row is a copy of another; copies stay in one split." in printed
    assert f"Written: {table.parent / 'splits'} (" in printed
    ml_split("--table", table, "--label", "label", "--folds", 2, "--test-ratio", 0.1)
    assert "Unchanged" in capsys.readouterr().out


def test_all_options_reach_the_split(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    options = ("--group", "who", "--content", "text", "value", "--seed", 3, "--output", output, "--on-bad-rows", "skip")
    table.write_text(table.read_text() + "\nbad,,p1,2")
    assert ml_split("--table", table, "--label", "label", *options, "--folds", 3) == 0
    assert "1 row is left out" in capsys.readouterr().out
    facts = read_json(output / "splits.json")
    assert facts["seed"] == 3
    assert (facts["table"]["group"], facts["table"]["content"]) == ("who", ["text", "value"])
    assert ml_split("--table", table, "--label", "value", "--bins", 4, "--output", output, "--overwrite") == 0
    assert "bin 04: " in capsys.readouterr().out
    plain = tmp_path / "plain.tsv"
    plain.write_text("\n".join(f'a\tsay "{k}' for k in range(30)))
    assert (
        ml_split("--table", plain, "--rows", "--column_names", "x", "y", "--quoting", "none", "--ratio", 0.6, 0.2, 0.2)
        == 0
    )
    printed = capsys.readouterr().out
    assert "validation is 0.2 of all rows, drawn anew for each fold, so a row may be in several" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "--label_column", "x"], "--label_column: is for images. Leave it out with --label or --rows"),
        (["--label", "x", "--on_corrupt", "skip"], "--on_corrupt: is for images"),
        (["--group", "who"], "--group: is for the rows of a table. Add --label COLUMN, or --rows"),
        (["--rows", "--bins", "3"], "--bins: is for a numeric label. Name its column with --label"),
    ],
)
def test_options_that_do_not_go_together(table: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ml_split("--table", table, *arguments)


def test_folders_have_no_rows_and_a_table_without_images_says_how_to_split_its_rows(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in (("--rows",), ("--label", "x"), ("--content", "x")):
        with pytest.raises(ConfigError, match=f"{option[0]}: goes with --table"):
            ml_split("--raw_data", tmp_path, *option)
    with pytest.raises(DataError, match="rows without images are split by ml-split --label"):
        ml_split("--table", table)
    with pytest.raises(SystemExit):
        ml_split("--table", table, "--rows", "--label", "label")
    assert "not allowed with argument" in capsys.readouterr().err
