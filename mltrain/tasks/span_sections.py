"""The section `data` of tasks that find answers in texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mltrain.core.errors import ConfigError
from mltrain.data.tables.columns import Column
from mltrain.data.text.answers import answer_problem
from mltrain.tasks.reading_settings import ReadingSettings
from mltrain.tasks.text_sections import TextDataSection

__all__ = ["SpanDataSection"]


class SpanDataSection(TextDataSection):
    """Texts, each with a question or criterion, and the part of the text that answers it, or none."""

    context_column: str = Field("context", description="Column of the texts that answers are parts of.")
    question_column: str | None = Field(None, description="Column of the questions or criteria, one for each text.")
    question: str | None = Field(
        None, min_length=1, description="One question for all texts. Default: none; the text stands alone."
    )
    answer_column: str = Field("answer", description="Column of the answers, word for word; empty where there is none.")
    start_column: str = Field(
        "answer_start", description="Column of the first character of each answer, from 0; -1 where there is none."
    )
    end_column: str | None = Field(
        None, description="Column of the character after each answer's last. Default: where the answer's words end."
    )
    stride: int = Field(
        32, ge=0, description="Tokens that neighbouring windows of a text share, where it is longer than `max_length`."
    )
    max_answer_length: int = Field(30, ge=1, le=1000, description="Most tokens of an answer that is predicted.")
    null_threshold: float = Field(
        0.0, description="How much the score of no answer must exceed that of the best answer. More: more answers."
    )

    def columns(self) -> list[Column]:
        """Return what is read of a row.

        Raises:
            ConfigError: there are two kinds of questions.
        """
        if self.question is not None and self.question_column is not None:
            raise ConfigError("is set beside data.question_column", where="data.question", fix="Leave one of them out.")
        found = [Column(self.context_column, "data.context_column", "text")]
        if self.question_column is not None:
            found.append(Column(self.question_column, "data.question_column", "text"))
        found += [
            Column(self.answer_column, "data.answer_column", "text", may_be_missing=True, target=True),
            Column(self.start_column, "data.start_column", "position", may_be_missing=True),
        ]
        if self.end_column is not None:
            found.append(Column(self.end_column, "data.end_column", "position", may_be_missing=True))
        return found

    def reading(self) -> ReadingSettings:
        """Return how texts are read and answers chosen."""
        return ReadingSettings(
            max_length=self.max_length,
            stride=self.stride,
            question=self.question,
            pairs=self.question_column is not None,
            max_answer_length=self.max_answer_length,
            null_threshold=self.null_threshold,
        )

    def row_problem(self, row: Mapping[str, Any]) -> str | None:
        """Return what is wrong with the answer of a row, given its values by column, and what to do; None: nothing."""
        end = None if self.end_column is None else row[self.end_column]
        problem = answer_problem(row[self.context_column], row[self.answer_column], row[self.start_column], end)
        return None if problem is None else f"{problem}. Mend the answer or its place."
