"""Metrics of answers in texts, from the places that were predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mltrain.data.loader import Batch
from mltrain.data.text.answers import NO_ANSWER
from mltrain.metrics.further_modules import text_modules
from mltrain.metrics.squad import squad_figures
from mltrain.tasks.base import Metrics
from mltrain.tasks.gathered_rows import GatheredRows
from mltrain.tasks.span_rows import SpanRows

__all__ = ["SpanMetrics"]


class SpanMetrics(Metrics):
    """SQuAD's exact match and F1 over all rows, over those that have an answer, and over those that have none.

    `exact_match`, `f1`: over all rows. A row without an answer is right where none is predicted. Where some rows of the
    data have none, also `exact_match_answered` and `f1_answered`, over the rows that have one, and
    `no_answer_accuracy`, the share of the others that are right; NaN where a split has no such row.

    Args:
        table: the texts and their answers.
        further: evaluate modules of the user's, `evaluation.metrics`: they are fed with the answers as texts.
    """

    def __init__(self, table: SpanRows, further: Sequence[str] = ()) -> None:
        self._table = table
        self._rows = GatheredRows("rows", "window", "first", "last")
        self._divided = NO_ANSWER in table.used_spans()
        divided = ("exact_match_answered", "f1_answered", "no_answer_accuracy") if self._divided else ()
        own = ("exact_match", "f1", *divided)
        self._further = text_modules(further, own) if further else None
        self.names = own if self._further is None else own + self._further.names

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in what `best_spans` gives of a batch."""
        self._rows.add(outputs["rows"], outputs["window"], outputs["first"], outputs["last"])

    def compute(self) -> dict[str, float]:
        """Return the figures."""
        predictions, answers = self._texts()
        found = squad_figures(predictions, answers)
        if self._divided:
            answered, unanswered = (
                squad_figures(*_chosen(predictions, answers, has_answer=wanted)) for wanted in (True, False)
            )
            found |= {
                "exact_match_answered": answered["exact_match"],
                "f1_answered": answered["f1"],
                "no_answer_accuracy": unanswered["exact_match"],
            }
        if self._further is not None:
            references = [texts[0] if texts else "" for texts in answers]
            found |= self._further.compute({"predictions": predictions, "references": references})
        return found

    def state(self) -> dict[str, Any]:
        """Return the places that were predicted."""
        return self._rows.state()

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add places."""
        self._rows.merge(state)

    def _texts(self) -> tuple[list[str], list[list[str]]]:
        """Return what was predicted for each row, and its right answer; an empty list where it has none."""
        reader, spans = self._table.reader, self._table.spans
        predictions: list[str] = []
        answers: list[list[str]] = []
        for row, *place in zip(*(column.tolist() for column in self._rows.columns().values()), strict=True):
            context, (begin, end) = reader.contexts[row], spans[row]
            predictions.append(reader.text(row, *place))
            answers.append([] if (begin, end) == NO_ANSWER else [context[begin:end]])
        return predictions, answers


def _chosen(predictions: list[str], answers: list[list[str]], *, has_answer: bool) -> tuple[list[str], list[list[str]]]:
    pairs = [pair for pair in zip(predictions, answers, strict=True) if bool(pair[1]) == has_answer]
    return [prediction for prediction, _ in pairs], [answer for _, answer in pairs]
