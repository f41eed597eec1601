"""Simulated messages: the same everywhere, evidence where it is said to be, and no sign that gives the class away."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from mltrain.core.errors import DataError
from mltrain.data.examples.messages import draw_messages, write
from mltrain.workflows.make_data import make_data, next_command

ROWS = draw_messages(3000, 7)


def test_the_file_is_the_same_everywhere(tmp_path: Path) -> None:
    assert make_data("messages", tmp_path) == f"3000 messages in {tmp_path / 'messages.csv'}"
    content = (tmp_path / "messages.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest()[:16] == "eb78ea42c37f6284"
    with (tmp_path / "messages.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [tuple(row.values()) for row in rows] == [tuple(map(str, row)) for row in ROWS]
    assert write(tmp_path), "writing the same again is no error"
    (tmp_path / "messages.csv").write_text("mine")
    with pytest.raises(DataError, match="is there already and holds something else"):
        write(tmp_path)


def test_evidence_stands_where_it_is_said_to() -> None:
    for text, _, evidence, start, end in ROWS:
        assert (start, end) == (-1, -1) if not evidence else text[start:end] == evidence
        assert not set(text) & set("<>{}")
    with_evidence = [row for row in ROWS if row[2]]
    assert 0.25 < len(with_evidence) / len(ROWS) < 0.4
    assert {row[1] for row in ROWS if not row[2]} == {"ham", "spam"}


def test_neither_sums_nor_numbers_tell_the_class() -> None:
    for sign in ("£", "07", "www."):
        shares = [row[1] == "spam" for row in ROWS if sign in row[0]]
        assert 0.1 < sum(shares) / len(shares) < 0.9
    assert 0.35 < sum(row[1] == "spam" for row in ROWS) / len(ROWS) < 0.45
    assert draw_messages(20, 8) != list(ROWS[:20])


def test_what_to_do_next() -> None:
    assert (
        next_command("messages", Path("d")) == "ml-split --table d/messages.csv --label label --content text --folds 5"
    )
