"""From tokens back to the characters of the original text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mltrain.data.text.answers import NO_ANSWER, Span, trimmed
from mltrain.data.text.windows import Windows

__all__ = ["SpanReader"]


@dataclass(frozen=True)
class SpanReader:
    """Contexts with their windows.

    Attributes:
        contexts: the texts, as they were given.
        windows: of the same rows.
    """

    contexts: Sequence[str]
    windows: Windows

    def span(self, row: int, window: int, first: int, last: int) -> Span:
        """Return the characters that tokens of a window stand for, without blanks at the ends; -1 all: no answer."""
        if window < 0:
            return NO_ANSWER
        offsets = self.windows.offsets[self.windows.of_row(row)[window]]
        return trimmed(self.contexts[row], int(offsets[first, 0]), int(offsets[last, 1]))

    def text(self, row: int, window: int, first: int, last: int) -> str:
        """Return the words of an answer; "" where there is none."""
        begin, end = self.span(row, window, first, last)
        return self.contexts[row][begin:end] if begin >= 0 else ""

    def rows(self, outputs: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Return, for what `best_spans` gives, one row an example.

        {"answer": "08712", "start": 17, "end": 22, "score": 0.94}, with the characters [start, end) of the original
        text; "", -1 and -1 where there is no answer. `score` is the model's probability of this answer in its window.
        """
        found = []
        columns = (outputs[name].tolist() for name in ("rows", "window", "first", "last", "score"))
        for row, window, first, last, score in zip(*columns, strict=True):
            begin, end = self.span(row, window, first, last)
            answer = self.contexts[row][begin:end] if begin >= 0 else ""
            found.append({"answer": answer, "start": begin, "end": end, "score": score})
        return found
