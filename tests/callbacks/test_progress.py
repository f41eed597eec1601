"""A progress bar for people, and none for files."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

# An epoch of five windows beside a log, as a run has them.
BAR = """
import sys
import time
from types import SimpleNamespace
from mltrain.callbacks.progress import Progress
from mltrain.core.logging import log, open_console_log
from mltrain.data.plan import Position

open_console_log()
loop = SimpleNamespace(
    is_main=True, num_epochs=2, steps_per_epoch=5, position=Position(),
    status_text=lambda: f"epsilon [b]0.{loop.position.step}[/b]" if len(sys.argv) > 1 else "",
)
progress = Progress()
progress.on_fit_start(loop)
progress.on_epoch_start(loop)
for _ in range(5):
    loop.position = loop.position.after_step()
    progress.on_step_end(loop)
    if loop.position.window == 3:
        time.sleep(0.6)
        log.info("a line [of] the log")
        time.sleep(0.6)
progress.on_epoch_end(loop, 0, {})
progress.on_fit_end(loop)
progress.on_fit_end(loop)
log.info("the end")
"""


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Return what the bar's process writes to a terminal."""
    master, slave = pty.openpty()
    inherited = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-c", BAR, *arguments],
        stderr=slave,
        stdout=slave,
        env={**inherited, "TERM": "xterm", "COLUMNS": "100", **environment},
    )
    os.close(slave)
    output = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(master)
    assert process.wait(timeout=30) == 0, output.decode()
    return output.decode()


def lines_of(output: str) -> list[str]:
    """Return what stands on the terminal in the end: carriage returns and erased lines carried out."""
    rows, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if token == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif token == "\x1b[2K":
            rows[row] = ""
        elif match := re.fullmatch(r"\x1b\[([0-9]*)A", token):
            row = max(0, row - int(match[1] or 1))
        elif token[0] not in "\r\x1b":
            rows[row] += token
    return [line.rstrip() for line in rows if line.strip()]


def test_a_terminal_gets_a_bar_that_leaves_whole_log_lines_behind() -> None:
    output = on_a_terminal()
    assert "epoch 1/2" in output
    assert "3/5" in output
    shown = lines_of(output)
    assert len(shown) == 2, shown
    assert re.fullmatch(r"[0-9:]{8} INFO +a line \[of\] the log", shown[0])
    assert re.fullmatch(r"[0-9:]{8} INFO +the end", shown[1])
    assert output.count("\x1b[?25l") == output.count("\x1b[?25h"), "the cursor is shown again"


@pytest.mark.slow
def test_what_the_trainer_says_stands_beside_the_bar_and_moves_with_it() -> None:
    output = on_a_terminal("with a status")
    assert "epsilon [b]0.3[/b]" in output
    assert len(lines_of(output)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_asks_for_plain_text_gets_no_bar(environment: dict[str, str]) -> None:
    output = on_a_terminal(**environment)
    assert "epoch 1/2" not in output
    assert "\x1b" not in output
    assert "a line [of] the log" in output


@pytest.mark.slow
def test_a_file_gets_no_bar(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True, check=True)
    assert "epoch 1/2" not in result.stderr + result.stdout
    assert result.stdout == ""
    assert "a line [of] the log" in result.stderr
