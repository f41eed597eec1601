"""What is wrong with answers of a table, and spans without the blanks around them."""

from __future__ import annotations

import pytest

from mltrain.data.text.answers import NO_ANSWER, answer_problem, answer_span, trimmed

TEXT = "won £500 today"


@pytest.mark.parametrize(
    ("answer", "start", "end"),
    [
        ("£500", 4, 8),
        ("£500", 4, None),
        ("£500", 4, -1),
        ("", -1, -1),
        (None, None, None),
        ("", None, 0),
        (None, -1, None),
    ],
)
def test_right_answers(answer: str | None, start: int | None, end: int | None) -> None:
    assert answer_problem(TEXT, answer, start, end) is None


@pytest.mark.parametrize(
    ("answer", "start", "end", "problem"),
    [
        ("£500", 5, None, "the answer '£500' is not at character 5, where '500 ' stands"),
        ("£500", 4, 9, "the answer '£500' ends at character 8, not 9"),
        ("£500", -1, None, "has the answer '£500' without its place in the text"),
        ("£500", None, None, "has the answer '£500' without its place in the text"),
        ("£500", -3, None, f"the answer '£500' cannot begin at character -3: the text has {len(TEXT)}, from 0 on"),
        ("£500", 400, None, f"the answer '£500' cannot begin at character 400: the text has {len(TEXT)}, from 0 on"),
        ("", 4, 8, "has no answer, but one begins at character 4"),
        (None, 0, None, "has no answer, but one begins at character 0"),
        (" ", 3, 4, "has an answer of nothing but blanks"),
    ],
)
def test_wrong_answers_are_told(answer: str | None, start: int | None, end: int | None, problem: str) -> None:
    assert answer_problem(TEXT, answer, start, end) == problem


def test_spans_are_those_of_the_table() -> None:
    assert answer_span("£500", 4) == (4, 8)
    assert answer_span("£500", -1) == answer_span("", 4) == answer_span(None, None) == NO_ANSWER


@pytest.mark.parametrize(("begin", "end", "expected"), [(3, 9, (4, 8)), (4, 8, (4, 8)), (0, 14, (0, 14))])
def test_blanks_at_the_ends_are_no_part_of_an_answer(begin: int, end: int, expected: tuple[int, int]) -> None:
    assert trimmed(TEXT, begin, end) == expected
