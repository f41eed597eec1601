"""Each of the forty faults has its row and its test, and the docs show the table as it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from conftest import ROOT
from faults import rows

NUMBERS = set(range(1, 41))


def test_every_fault_has_a_row() -> None:
    assert {row.number for row in rows()} == NUMBERS
    cases = [(row.number, row.case) for row in rows()]
    assert len(cases) == len(set(cases))


def test_every_fault_has_a_test_of_its_number() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = {int(number) for number in re.findall(r"^def test_fault_(\d\d)_", tests, re.MULTILINE)}
    assert named == NUMBERS


def test_every_mistake_is_one_line_with_what_to_do() -> None:
    for row in rows():
        assert row.exit in (0, 1, 2, 75, 130, 143)
        assert row.lines or row.answer
        if row.exit in (2, 75):
            assert any(line.startswith("error:") for line in row.lines), row


def test_the_docs_show_the_table() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    from generate_faults import TARGET, reference

    assert TARGET.read_text(encoding="utf-8") == reference()
