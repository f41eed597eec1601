"""The table of faults: what each does to a command, in its exact words; the docs show it and the tests hold it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

__all__ = ["Row", "check", "check_text", "rows"]

TABLE = Path(__file__).resolve().parent.parent / "faults" / "table"


@dataclass(frozen=True)
class Row:
    """A fault, or one case of it.

    number, case: which; a fault that shows itself in several ways has a row for each.
    fault: what is wrong, for people.
    answer: what mltrain does about it, a sentence. Empty where the line says it all.
    lines: the lines that are shown, without the time and place of the log. `{name}` stands for a text of the test,
        `...` for anything.
    exit: the exit code.
    """

    number: int
    case: str
    fault: str
    answer: str
    lines: tuple[str, ...]
    exit: int


def rows() -> Iterator[Row]:
    """Yield all rows, in order of their numbers."""
    found = []
    for file in TABLE.glob("*.yaml"):
        for row in yaml.safe_load(file.read_text(encoding="utf-8")):
            lines = tuple(row.get("lines", ()))
            found.append(
                Row(row["number"], row.get("case", ""), row["fault"], row.get("answer", ""), lines, row["exit"])
            )
    yield from sorted(found, key=lambda row: row.number)


def check(number: int, result: subprocess.CompletedProcess[str], case: str = "", **texts: object) -> None:
    """Assert that a command ended as the table says: exit code, lines, no traceback, one line of error for a mistake.

    Args:
        number, case: the row.
        result: of the command, with its standard error.
        texts: what the placeholders of the row's lines stand for.
    """
    row = _row(number, case)
    assert result.returncode == row.exit, result.stderr
    check_text(number, result.stderr, case, **texts)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    expected = [line for line in row.lines if line.startswith("error:")]
    assert len(errors) == len(expected), result.stderr


def check_text(number: int, shown: str, case: str = "", **texts: object) -> None:
    """Assert that a text, such as standard error, has the row's lines, and no traceback."""
    assert "Traceback" not in shown, shown
    for line in _row(number, case).lines:
        assert any(_matches(line, text, texts) for text in shown.splitlines()), f"no line {line!r} in:\n{shown}"


def _row(number: int, case: str) -> Row:
    return next(row for row in rows() if (row.number, row.case) == (number, case))


def _matches(line: str, shown: str, texts: dict[str, object]) -> bool:
    """Return whether a shown line is the row's; before a warning stand time, level and place."""
    words = re.split(r"(\{\w+\}|\.\.\.)", line)
    pattern = "".join(
        ".*" if word == "..." else re.escape(str(texts[word[1:-1]]) if re.fullmatch(r"\{\w+\}", word) else word)
        for word in words
    )
    head = "" if line.startswith("error:") else r"(?:[\d-]+ [\d:]+ (?:INFO   |WARNING|ERROR  ) .{16} )?"
    return re.fullmatch(head + pattern, shown) is not None
