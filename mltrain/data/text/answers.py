"""Answers as characters of a text, and as tokens of its windows: from one to the other and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mltrain.data.text.windows import Windows

__all__ = ["NO_ANSWER", "Answers", "Span", "answer_problem", "answer_span", "locate_answers", "trimmed"]

Span = tuple[int, int]
"""Characters [begin, end) of a text."""

NO_ANSWER: Span = (-1, -1)


def answer_span(answer: str | None, start: int | None) -> Span:
    """Return the characters of an answer; `NO_ANSWER` where the table has none: no text, or a start of -1."""
    if not answer or start is None or start == -1:
        return NO_ANSWER
    return start, start + len(answer)


def answer_problem(context: str, answer: str | None, start: int | None, end: int | None) -> str | None:
    """Return what is wrong with the answer of a row, for people; None: nothing.

    Args:
        context: the text that it is a part of.
        answer: its words; None or "": there is none.
        start: its first character; None or -1: there is none.
        end: the character after its last; None: not given.
    """
    if not answer:
        return None if start in (None, -1) else f"has no answer, but one begins at character {start}"
    if start in (None, -1):
        return f"has the answer {_short(answer)} without its place in the text"
    assert start is not None
    if not answer.strip():
        return "has an answer of nothing but blanks"
    if not 0 <= start < len(context):
        return f"the answer {_short(answer)} cannot begin at character {start}: the text has {len(context)}, from 0 on"
    found = context[start : start + len(answer)]
    if found != answer:
        return f"the answer {_short(answer)} is not at character {start}, where {_short(found)} stands"
    if end not in (None, -1, start + len(answer)):
        return f"the answer {_short(answer)} ends at character {start + len(answer)}, not {end}"
    return None


@dataclass(frozen=True)
class Answers:
    """Where the answers of R rows are in their windows.

    Attributes:
        targets: first and last token of the answer, counted from the beginning of a window, int32 (windows, 2); (0, 0),
            the place of [CLS], for a window that does not hold the whole of it.
        cut: rows whose answer no window holds whole.
        longest: tokens of the longest answer that a window holds.
        uneven: rows whose answer does not begin and end with a token: it cannot be predicted exactly.
    """

    targets: NDArray[np.int32]
    cut: list[int]
    longest: int
    uneven: list[int]


def locate_answers(windows: Windows, spans: list[Span]) -> Answers:
    """Return the tokens of the answers.

    Args:
        windows: of the contexts.
        spans: of each row the characters of its answer, or `NO_ANSWER`.
    """
    targets = np.zeros((len(windows.window_starts) - 1, 2), dtype=np.int32)
    cut, uneven, longest = [], [], 0
    for row, (begin, end) in enumerate(spans):
        if (begin, end) == NO_ANSWER:
            continue
        held = False
        for number, tokens in enumerate(windows.of_row(row), start=int(windows.row_starts[row])):
            offsets = windows.offsets[tokens]
            found = _tokens_of(offsets, begin, end)
            if found is None:
                continue
            targets[number] = found
            longest = max(longest, found[1] - found[0] + 1)
            even = (int(offsets[found[0], 0]), int(offsets[found[1], 1])) == (begin, end)
            if not (held or even):
                uneven.append(row)
            held = True
        if not held:
            cut.append(row)
    return Answers(targets, cut, longest, uneven)


def trimmed(text: str, begin: int, end: int) -> Span:
    """Return a span without blanks at its ends: some tokenizers count the blank before a word to it."""
    part = text[begin:end]
    return begin + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def _tokens_of(offsets: NDArray[np.int32], begin: int, end: int) -> Span | None:
    """Return the first and the last token of an answer; None where a window does not hold the whole of it."""
    of_context = np.flatnonzero(offsets[:, 1] > 0)
    if not len(of_context):
        return None
    own = offsets[of_context]
    if own[0, 0] > begin or own[-1, 1] < end:
        return None
    touched = of_context[(own[:, 1] > begin) & (own[:, 0] < end)]
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
