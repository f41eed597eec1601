"""The command `ml-split`: its arguments and what it prints."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
from images import PIXEL

from mltrain.cli import split
from mltrain.core.errors import ConfigError
from mltrain.data.split_files import available_folds


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for name, number in {"ants": 20, "[red]bees": 40}.items():
        (folder / name).mkdir(parents=True)
        for i in range(number):
            (folder / name / f"{i}.jpg").write_text(f"{PIXEL}{name} {i}")
    return folder


def ml_split(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="ml-split")
    split.add_arguments(parser)
    return split.run(parser.parse_args([str(argument) for argument in arguments]))


def rows(output: str) -> dict[str, list[str]]:
    """Return first word -> the numbers of each line of the table."""
    lines = [line.replace("/", " ").split() for line in output.splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) > 3 and all(word.isdigit() for word in line[1:])}


def test_the_table_counts_every_class_and_split(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ml_split("--raw_data", raw, "--folds", 2, "--test_ratio", 0.1) == 0
    printed = capsys.readouterr().out
    assert rows(printed) == {
        "ants": ["20", "2", "9", "9", "9", "9"],
        "[red]bees": ["40", "4", "18", "18", "18", "18"],
        "all": ["60", "6", "27", "27", "27", "27"],
    }
    assert "2-fold: each of the 54 files that are not test is in exactly one validation fold." in printed
    assert f"Written: {raw.parent / 'splits'} (" in printed


def test_a_wide_table_is_not_cut(
    raw: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ml_split("--raw_data", raw, "--folds", 10)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "[red]bees" in printed
    assert len(rows(printed)["all"]) == 22


def test_a_repeated_hold_out_says_that_it_is_no_k_fold(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ml_split("--raw_data", raw, "--ratio", 0.7, 0.15, 0.15)
    printed = capsys.readouterr().out
    assert "Repeated hold-out, 5 times: validation is 0.15 of all files" in printed
    assert "For k-fold use --test_ratio 0.15 instead of --ratio." in printed


def test_a_second_run_says_unchanged(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ml_split("--raw_data", raw)
    capsys.readouterr()
    ml_split("--raw_data", raw)
    assert "Unchanged" in capsys.readouterr().out


def test_what_was_skipped_is_printed(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "ants" / "a.heic").write_text("x")
    ml_split("--raw_data", raw)
    assert "Skipped: 1 files of kind .heic." in capsys.readouterr().out


def test_the_rows_of_many_classes_are_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(70):
        folder = tmp_path / "raw" / f"class{number:02}"
        folder.mkdir(parents=True)
        for i in range(3):
            (folder / f"{i}.jpg").write_text(f"{PIXEL}{number} {i}")
    ml_split("--raw_data", tmp_path / "raw", "--folds", 2)
    printed = capsys.readouterr().out
    assert "10 more classes: see splits.json" in printed
    assert rows(printed)["all"] == ["210", "70", "70", "70", "70", "70"]


def test_spellings_with_dashes_seed_and_output(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert ml_split("--raw-data", raw, "--test-ratio", 0.2, "--seed", 3, "--output", output, "--folds", 3) == 0
    assert available_folds(output) == [0, 1, 2]
    assert ml_split("--raw_data", raw, "--output", output, "--overwrite") == 0
    assert available_folds(output) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("option", ["--test_ratio", "--test-ratio"])
def test_test_ratio_and_ratio_exclude_each_other(raw: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit) as raised:
        ml_split("--raw_data", raw, option, 0.2, "--ratio", 0.6, 0.2, 0.2)
    assert raised.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.fixture
def table(raw: Path) -> Path:
    """The images with a table in which eight neighbours have one owner."""
    lines = [
        f"raw/{path.parent.name}/{path.name};{path.parent.name};{number // 8}"
        for number, path in enumerate(sorted(raw.rglob("*.jpg")))
    ]
    file = raw.parent / "labels.csv"
    file.write_text("\n".join(["file;kind;owner", *lines]))
    return file


def test_a_table_is_cut(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ("--path_column", "file", "--label-column", "kind")
    assert ml_split("--table", table, *columns, "--folds", 2, "--test_ratio", 0.1) == 0
    printed = capsys.readouterr().out
    assert rows(printed)["all"] == ["60", "6", "27", "27", "27", "27"]
    assert f"Written: {table.parent / 'splits'} (" in printed
    assert ml_split("--table", table, *columns, "--group-column", "owner", "--folds", 2, "--overwrite") == 0
    assert all(int(number) % 4 == 0 for number in rows(capsys.readouterr().out)["all"])


def test_columns_go_with_a_table_alone(raw: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"--label_column: goes with --table\. Leave it out with --raw_data"):
        ml_split("--raw_data", raw, "--label_column", "kind")
    for arguments in [("--raw_data", raw, "--table", table), ()]:
        with pytest.raises(SystemExit):
            ml_split(*arguments)
    assert "--raw_data" in capsys.readouterr().err


def test_the_images_of_a_table_may_lie_elsewhere(table: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tables" / "t.csv"
    elsewhere.parent.mkdir()
    table.rename(elsewhere)
    options = ("--path_column", "file", "--label_column", "kind", "--data_dir", tmp_path)
    assert ml_split("--table", elsewhere, *options) == 0
    assert available_folds(tmp_path / "splits") == [0, 1, 2, 3, 4]


def test_torch_is_never_imported(raw: Path) -> None:
    program = f"""
import argparse, sys
from mltrain.cli import split
parser = argparse.ArgumentParser()
split.add_arguments(parser)
assert "rich" not in sys.modules and "mltrain.workflows.split" not in sys.modules
split.run(parser.parse_args(["--raw_data", {str(raw)!r}]))
assert not {{"torch", "numpy", "pydantic"}} & set(sys.modules), "heavy imports"
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
