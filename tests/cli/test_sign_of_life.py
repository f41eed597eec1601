"""The line that a command prints while it loads its libraries."""

from __future__ import annotations

import argparse
import threading

import pytest

from mltrain.cli import sign_of_life as module
from mltrain.cli.sign_of_life import sign_of_life
from mltrain.core.logging import open_console_log


@pytest.mark.parametrize(
    ("resume", "processes", "line"),
    [
        (None, 1, "Starting with c.yaml: loading libraries."),
        (None, 2, "Starting with c.yaml: loading libraries in 2 processes."),
        ("auto", 1, "Starting, or continuing, with c.yaml: loading libraries."),
        ("runs/it", 1, "Continuing runs/it: loading libraries."),
    ],
)
def test_what_takes_long_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], resume: str | None, processes: int, line: str
) -> None:
    monkeypatch.setattr(module, "_AFTER_S", 0.0)
    open_console_log()
    before = set(threading.enumerate())
    with sign_of_life(argparse.Namespace(config="c.yaml", resume=resume), processes):
        for timer in set(threading.enumerate()) - before:
            timer.join(30)
    assert capsys.readouterr().err.rstrip("\n").endswith(line)


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "_AFTER_S", 600.0)
    open_console_log()
    before = set(threading.enumerate())
    with sign_of_life(argparse.Namespace(config="c.yaml", resume=None), 1):
        (timer,) = set(threading.enumerate()) - before
    timer.join(30)
    assert not timer.is_alive()
    assert capsys.readouterr().err == ""
