"""The log: one handler a sink, each line with its head, nothing lost to odd characters."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mltrain.core.logging import (
    LogContext,
    close_log,
    console_log,
    is_terminal,
    kept_for_file,
    log,
    open_console_log,
    open_file_log,
)

HEAD = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Each test starts without handlers; the logger's state of before is put back."""
    before = (list(log.handlers), log.level, log.propagate)
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)
    LogContext.set()
    yield
    for handler in log.handlers:
        handler.close()
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])
    LogContext.set()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_has_time_level_epoch_and_phase() -> None:
    handler = open_file_log(Path("train.log"))
    log.info("begins")
    LogContext.set(epoch=2, num_epochs=50, phase="train")
    log.warning("first\nsecond")
    LogContext.set(phase="evaluate")
    log.info("")
    close_log(handler)
    lines = Path("train.log").read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(rf"{HEAD} INFO                     begins", lines[0])
    assert re.fullmatch(rf"{HEAD} WARNING    3/50 train    first", lines[1])
    assert re.fullmatch(rf"{HEAD} WARNING    3/50 train    second", lines[2])
    assert re.fullmatch(rf"{HEAD} INFO            evaluate ", lines[3])
    assert len(lines) == 4


def test_the_traceback_of_a_failure_is_in_the_file_and_not_on_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    open_console_log()
    handler = open_file_log(Path("train.log"))
    try:
        raise KeyError("what went wrong")
    except KeyError:
        log.debug("The run failed.", exc_info=True)
    close_log(handler)
    lines = Path("train.log").read_text().splitlines()
    assert lines[0].endswith("The run failed.")
    assert lines[-1].endswith("KeyError: 'what went wrong'")
    assert all(re.match(rf"{HEAD} DEBUG", line) for line in lines)
    assert capsys.readouterr().err == ""


def test_the_order_of_opening_does_not_matter(capsys: pytest.CaptureFixture[str]) -> None:
    handler = open_file_log(Path("train.log"))
    open_console_log()
    log.debug("fine")
    log.info("plain")
    close_log(handler)
    assert len(Path("train.log").read_text().splitlines()) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_file_holds_what_was_said_before_it_was_opened(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    with console_log(), kept_for_file():
        log.warning("before")
        handler = open_file_log(Path("train.log"))
        log.info("within")
        close_log(handler)
        again = open_file_log(Path("again.log"))
        close_log(again)
    assert [line.rsplit(" ", 1)[-1] for line in Path("train.log").read_text().splitlines()] == ["before", "within"]
    assert Path("again.log").read_text() == ""
    assert capsys.readouterr().err.count("before") == (rank == "0")
    assert (log.handlers, log.level, log.propagate) == ([], logging.NOTSET, True)


def test_the_console_is_opened_once(capsys: pytest.CaptureFixture[str]) -> None:
    open_console_log()
    open_console_log()
    log.info("once")
    printed = capsys.readouterr()
    assert printed.err.count("once") == 1
    assert printed.out == ""
    assert "\x1b" not in printed.err


def test_a_closed_file_gets_no_more_and_another_run_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    first = open_file_log(Path("a.log"))
    log.info("one")
    close_log(first)
    second = open_file_log(Path("b.log"))
    log.info("two")
    close_log(second)
    assert "two" not in Path("a.log").read_text()
    assert "one" not in Path("b.log").read_text()
    again = open_file_log(Path("a.log"))
    log.info("three")
    close_log(again)
    assert [line.rsplit(" ", 1)[-1] for line in Path("a.log").read_text().splitlines()] == ["one", "three"]


def test_names_of_files_that_are_not_utf8_do_not_break_the_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own record of the log cannot travel between its processes with such a name in it.
    monkeypatch.setattr(log, "propagate", False)
    handler = open_file_log(Path("train.log"))
    log.info("caf\udce9 %s", "ü🐝")
    close_log(handler)
    assert Path("train.log").read_text(encoding="utf-8").endswith("caf\\udce9 ü🐝\n")
    assert "Traceback" not in capsys.readouterr().err


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    open_console_log()
    log.error("red")
    assert "\x1b[31mERROR  \x1b[0m" in terminal.getvalue()
    assert terminal.getvalue().endswith(" red\n")


def test_what_counts_as_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Terminal())
    assert not is_terminal(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_terminal(Terminal())
    monkeypatch.setenv("NO_COLOR", "")  # no-color.org: counts when it is not empty
    assert is_terminal(Terminal())
