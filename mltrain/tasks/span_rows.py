"""The rows of a table in windows of tokens, with their answers: what all tasks that find answers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.data.dataset import SampleDataset
from mltrain.data.tables.row_splits import RowSplits
from mltrain.data.text.answers import NO_ANSWER, Answers, Span, answer_span, locate_answers
from mltrain.data.text.tokenizers import tokenizer_from_json
from mltrain.data.text.window_dataset import WindowDataset
from mltrain.data.text.windows import Windows, cut_windows
from mltrain.tasks.run_tokenizer import RunTokenizer
from mltrain.tasks.span_reading import SpanReader
from mltrain.tasks.span_sections import SpanDataSection
from mltrain.tasks.text_sections import TextModelSection

__all__ = ["SpanRows"]


class SpanRows:
    """A divided table of texts with answers. Tokens are made when they are first asked for.

    Args:
        section: names the columns and the windows.
        model: names the tokenizer.
        rows: the table.

    Attributes:
        tokenizer: of the run.
        contexts: the text of each row of the table, read when it is asked for.
        spans: the characters of each row's answer, or `NO_ANSWER`.
    """

    def __init__(self, section: SpanDataSection, model: TextModelSection, rows: RowSplits) -> None:
        self._section, self._rows = section, rows
        self.tokenizer = RunTokenizer(model, self._training_texts)
        self.contexts: Sequence[str] = _Texts(rows.values(section.context_column))
        answers, starts = rows.values(section.answer_column), rows.values(section.start_column)
        self.spans: list[Span] = [NO_ANSWER] * len(self.contexts)
        for row in self._used:
            self.spans[row] = answer_span(answers[row], starts[row])

    @cached_property
    def windows(self) -> Windows:
        """The windows of all rows.

        Raises:
            ConfigError: the tokenizer begins with no token of its own, or windows have no room.
            DataError: a question leaves no room for its text.
        """
        tokenizer = self.tokenizer.tokenizer
        found = cut_windows(
            tokenizer,
            self.contexts,
            self._questions,
            max_length=self._section.max_length,
            stride=self._section.stride,
            place=self._rows.table.place,
        )
        if (
            tokenizer.cls_token_id is None
            or (found.input_ids[found.window_starts[:-1]] != tokenizer.cls_token_id).any()
        ):
            raise ConfigError(
                "the tokenizer puts no token such as [CLS] before a text, which would stand for no answer",
                where="model.tokenizer",
                fix="Name that of an encoder such as BERT, or wordpiece.",
            )
        return found

    @cached_property
    def answers(self) -> Answers:
        """The tokens of the answers. Those that cannot be learned or predicted exactly are told once."""
        found = locate_answers(self.windows, self.spans)
        count = sum(span != NO_ANSWER for span in self.spans)
        if found.cut:
            log.warning(
                "%d of %d answers lie in no window as a whole, the first at %s, and are taught as no answer. Raise "
                "data.stride or data.max_length.",
                len(found.cut), count, self._rows.table.place(found.cut[0]),
            )  # fmt: skip
        if found.uneven:
            log.warning(
                "%d of %d answers begin or end within a token, the first at %s, and cannot be matched exactly.",
                len(found.uneven), count, self._rows.table.place(found.uneven[0]),
            )  # fmt: skip
        if found.longest > self._section.max_answer_length:
            log.warning(
                "The longest answer has %d tokens; data.max_answer_length = %d cuts such predictions off.",
                found.longest, self._section.max_answer_length,
            )  # fmt: skip
        return found

    @cached_property
    def reader(self) -> SpanReader:
        """From tokens back to characters."""
        return SpanReader(self.contexts, self.windows)

    @cached_property
    def pad_id(self) -> int:
        """The token that fills shorter windows up."""
        return int(self.tokenizer.tokenizer.pad_token_id)

    def datasets(self, labels: NDArray[np.int64] | None = None) -> dict[str, SampleDataset]:
        """Return the splits that have rows. Those that are evaluated go from short rows to long ones: less padding.

        Args:
            labels: the class of each row of the table; None: they have none.
        """
        lengths = self.windows.lengths()
        found: dict[str, SampleDataset] = {}
        for split, rows in self._rows.splits.items():
            ordered = rows if split == "train" else rows[np.argsort(lengths[rows], kind="stable")]
            found[split] = WindowDataset(ordered, self._rows.ids, self.windows, self.answers.targets, labels)
        return found

    def sample_lengths(self) -> Sequence[int] | None:
        """Return the number of tokens of each training row, over all its windows, where rows are to be bucketed."""
        if not self._section.length_bucketing:
            return None
        lengths: list[int] = self.windows.lengths()[self._rows.splits["train"]].tolist()
        return lengths

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer as transformers reads it."""
        tokenizer = tokenizer_from_json(self.tokenizer.as_json)
        tokenizer.model_max_length = self._section.max_length
        tokenizer.save_pretrained(str(folder))

    def used_spans(self) -> list[Span]:
        """Return the answers of the rows that are in a split."""
        return [self.spans[row] for row in self._used]

    def answered(self) -> dict[str, int]:
        """Return how many rows of each split have an answer."""
        return {
            split: sum(self.spans[row] != NO_ANSWER for row in rows.tolist())
            for split, rows in self._rows.splits.items()
        }

    @cached_property
    def _used(self) -> list[int]:
        return [row for rows in self._rows.splits.values() for row in rows.tolist()]

    @property
    def _questions(self) -> Sequence[str] | None:
        section = self._section
        if section.question_column is not None:
            return _Texts(self._rows.values(section.question_column))
        return None if section.question is None else [section.question] * len(self.contexts)

    def _training_texts(self) -> Iterator[str]:
        questions = self._questions
        for row in self._rows.splits["train"].tolist():
            yield self.contexts[row]
            if questions is not None:
                yield questions[row]


class _Texts(Sequence[str]):
    """The texts of a column; "" where a row that is in no split has none."""

    def __init__(self, values: Sequence[str | None]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [text or "" for text in self._values[row]]
        return self._values[row] or ""
