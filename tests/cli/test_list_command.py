"""What `mltrain list` prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mltrain.cli.main import main

CONFIG = "training: {trainer_type: standard, num_epochs: 7}\n"
SUMMARY = {
    "status": "completed",
    "reason": "",
    "epochs": 5,
    "best": {"metric": "val/accuracy", "value": 0.91234, "epoch": 4},
    "test": {"accuracy": 0.875},
}


def make_run(name: str, *, created: str = "2020-01-01T00:00:00+00:00") -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    (folder / "metadata.json").write_text(json.dumps({"created": created}))
    return folder


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("flowers")
    assert main(["list"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "status", "trainer", "epochs", "best", "test", "age"]
    assert row.split()[:8] == [
        "flowers", "completed", "standard", "5/7", "val/accuracy", "0.9123", "@4", "accuracy",
    ]  # fmt: skip
    assert row.split()[8] == "0.8750"
    assert row.rstrip().endswith(" d")


def test_odd_names_and_narrow_terminals_cut_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    names = ["[red]x", "zwei\nZeilen", "ä" * 60]
    for name in names:
        make_run(name)
    make_run(os.fsdecode(b"\xff"))
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "[red]x " in printed
    assert "zwei\\nZeilen" in printed
    assert "ä" * 60 in printed
    assert "\\xff" in printed
    assert "…" not in printed


def test_a_damaged_folder_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    (make_run("broken") / "config.yaml").unlink()
    make_run("sound")
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert "config.yaml is missing" in printed
    assert "sound" in printed


@pytest.mark.parametrize(("state", "shown"), [("under way", "<= 3"), ("ended", "3")])
@pytest.mark.parametrize("has_summary", [True, False])
def test_a_run_without_a_last_word_shows_what_its_statement_says(
    state: str, shown: str, has_summary: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run("killed")
    running = {"status": "running", "best": None}
    (folder / "summary.json").write_text(json.dumps(running))
    if not has_summary:
        (folder / "summary.json").unlink()
    (folder / "reports").mkdir()
    statement = {"epsilon": 2.99999, "delta": 0.000233612, "void": None, "state": state}
    (folder / "reports" / "privacy.json").write_text(json.dumps(statement))
    assert main(["list"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    assert row[head.index("epsilon") :].split("  ")[0].strip() == f"{shown} (delta 0.0002337)"


def test_the_privacy_that_any_run_claims_has_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    for name, epsilon, void in (("private", 2.91301, None), ("void", None, "no noise")):
        claim = {"epsilon": epsilon, "delta": 1e-5, "void": void}
        (make_run(name) / "summary.json").write_text(json.dumps({**SUMMARY, "privacy": claim}))
    make_run("plain")
    assert main(["list"]) == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    shown = {row.split()[0]: row[head.index("epsilon") :].split("  ")[0].strip() for row in rows}
    assert shown == {"private": "2.914 (delta 1e-05)", "void": "void", "plain": ""}
    assert main(["list", "--json"]) == 0
    privacy = {run["name"]: run["privacy"] for run in json.loads(capsys.readouterr().out)}
    assert privacy["private"] == {"epsilon": 2.91301, "delta": 1e-5, "void": False, "at_most": False}
    assert privacy["plain"] is None


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("flowers")
    assert main(["list", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)
    assert run == {
        "name": "flowers",
        "path": str(Path("runs/flowers")),
        "status": "completed",
        "reason": "",
        "trainer": "standard",
        "epochs": 5,
        "num_epochs": 7,
        "best": {"metric": "val/accuracy", "value": 0.91234, "epoch": 4},
        "test": {"metric": "accuracy", "value": 0.875, "epoch": None},
        "started": 1577836800.0,
        "privacy": None,
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--limit", "0"], "--limit: is 0. Use 1 or more."), (["nowhere"], "nowhere: no such folder.")],
)
def test_mistakes_are_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("flowers")
    assert main(["list", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_no_runs_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("flowers")
    assert main(["list", "--status", "failed"]) == 0
    assert capsys.readouterr().out == "No failed runs in runs.\n"


def test_torch_is_never_imported() -> None:
    make_run("flowers")
    program = """
import sys
from mltrain.cli.main import main
main(["list"])
assert not {"torch", "numpy", "pydantic"} & set(sys.modules), "heavy imports"
"""
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
