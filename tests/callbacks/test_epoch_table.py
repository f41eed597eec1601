"""The table after each epoch."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from mltrain.callbacks.epoch_table import EpochTable, epoch_table
from mltrain.core.logging import log
from mltrain.data.plan import Position


def rows(text: str) -> dict[str, list[str]]:
    """Return the lines below the heading, by their first word."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.lstrip().startswith("metric")) + 2
    return {words[0]: words[1:] for words in (line.split() for line in lines[start:])}


def test_difference_and_percent_are_those_of_validation_against_train() -> None:
    values = {"train/loss": 0.5, "val/loss": 0.75, "train/accuracy": 0.8, "val/accuracy": 0.6, "train/lr": 0.1}
    table = epoch_table(values, "epoch 1/3")
    assert table.splitlines()[0] == "epoch 1/3"
    assert table.splitlines()[1].split() == ["metric", "train", "validation", "difference", "difference", "in", "%"]
    assert rows(table) == {
        "loss": ["0.5000", "0.7500", "+0.2500", "+50.0"],
        "accuracy": ["0.8000", "0.6000", "-0.2000", "-25.0"],
        "lr": ["0.1000", "-", "-", "-"],
    }


def test_a_negative_or_absent_base_keeps_the_sign_of_the_change() -> None:
    table = epoch_table({"train/a": -2.0, "val/a": -1.0, "train/b": 0.0, "val/b": 1.0}, "")
    assert rows(table) == {"a": ["-2.0000", "-1.0000", "+1.0000", "+50.0"], "b": ["0.0000", "1.0000", "+1.0000", "-"]}


def test_what_is_not_finite_is_shown_as_such() -> None:
    table = epoch_table({"train/loss": 0.5, "val/loss": float("nan")}, "")
    assert rows(table)["loss"][:2] == ["0.5000", "nan"]


def test_names_are_taken_literally() -> None:
    table = epoch_table({"train/f1[cat]": 0.5, "train/:smile:": 0.25, "train/[red]x[/red]": 1.0}, "")
    assert set(rows(table)) == {"f1[cat]", ":smile:", "[red]x[/red]"}


def test_there_is_no_colour_and_no_line_beyond_the_width() -> None:
    table = epoch_table({f"train/metric_{n}": n for n in range(5)}, "")
    assert "\x1b" not in table
    assert all(line == line.rstrip() and len(line) <= 100 for line in table.splitlines())


@pytest.mark.parametrize("is_main", [True, False])
def test_the_main_process_logs_title_mean_time_and_table(
    is_main: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = SimpleNamespace(is_main=is_main, num_epochs=3, position=Position(epoch=1, window=0, step=10))
    table = EpochTable()
    monkeypatch.setattr(log, "propagate", True)
    with caplog.at_level(logging.INFO, "mltrain"):
        table.on_epoch_start(loop)  # type: ignore[arg-type]
        for _ in range(4):
            loop.position = loop.position.after_step()
            table.on_step_end(loop)  # type: ignore[arg-type]
        loop.position = loop.position.next_epoch()
        table._seconds = 2.0
        table.on_epoch_end(loop, 1, {"train/loss": 1.0, "val/loss": 2.0})  # type: ignore[arg-type]
    assert ("epoch 2/3, mean batch time 500.0 ms" in caplog.text) is is_main
    assert ("+100.0" in caplog.text) is is_main
