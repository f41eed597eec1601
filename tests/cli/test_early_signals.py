"""A signal before a command has imported what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal
from mltrain.cli.early_signals import leave_on_signals
with leave_on_signals():
    try:
        os.kill(os.getpid(), signal.{name})
    except BaseException:
        print("swallowed")
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_it_ends_the_process_whatever_would_swallow_an_exception(name: str, code: int) -> None:
    command = [sys.executable, "-c", PROGRAM.format(name=name)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (code, "")
    assert result.stderr == "Interrupted before training began: there is nothing to save.\n"


def test_of_several_processes_the_first_one_tells() -> None:
    command = [sys.executable, "-c", PROGRAM.format(name="SIGTERM")]
    environment = {**os.environ, "RANK": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (143, "")


def test_handlers_are_put_back() -> None:
    from mltrain.cli.early_signals import leave_on_signals

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with leave_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
