"""Writes docs/faults.md from the table of tests/faults: `python docs/generate_faults.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("faults.md")
sys.path.insert(0, str(TARGET.parent.parent / "tests" / "support"))

HEAD = """# Faults

What can go wrong around a run, and what mltrain does about each: nothing is lost, and what you can mend is told in a
line with what, where and how. In the lines `...` stands for what differs from case to case. `--debug` adds the
traceback. Each row is held by a test of its number in `tests/faults`. Written by `docs/generate_faults.py`.

| exit code | meaning |
|---|---|
| 0 | the run goes on |
| 1 | a defect of mltrain or of a plugin; its traceback is in `logs/train.log` |
| 2 | something that you can mend |
| 75 | another process of the run is lost; the same command may succeed |
| 130, 143 | stopped by Ctrl-C or SIGTERM; the run is saved |
"""


def reference() -> str:
    """Return the page."""
    from faults import rows

    lines = [HEAD, "| | fault | what mltrain does | exit code |", "|---|---|---|---|"]
    for row in rows():
        shown = [f"`{_placed(line)}`" for line in row.lines]
        answer = "<br>".join(_cell(text) for text in (row.answer, *shown) if text)
        lines.append(f"| {row.number} | {_cell(row.fault)} | {answer} | {row.exit} |")
    return "\n".join(lines) + "\n"


def _placed(line: str) -> str:
    """Return a line with `...` for the texts of its test."""
    return re.sub(r"\{\w+\}", "...", line)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
