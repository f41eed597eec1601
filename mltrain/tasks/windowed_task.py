"""What all tasks on texts that are read in windows have in common: data, tokenizer, initial weights, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mltrain.config.schema import Config
from mltrain.core.logging import log
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.text.window_dataset import WindowedRow, collate_windows
from mltrain.tasks.base import Task
from mltrain.tasks.run_text_model import RunTextModel
from mltrain.tasks.span_rows import SpanRows
from mltrain.tasks.span_sections import SpanDataSection
from mltrain.tasks.text_sections import TextModelSection

__all__ = ["WindowedTask"]


class WindowedTask(Task):
    """A task on the rows of a table that hold a text with an answer in it.

    An example is a row, with all its windows.

    Args:
        config: of a task whose sections are, or extend, `SpanDataSection` and `TextModelSection`.
        label: column of the rows' classes; None: they have none.

    Attributes:
        rows: windows and answers.
        table: the divided table.
        reading: how texts are read and answers chosen.
        text_model: builds the model, or parts of it.
    """

    def __init__(self, config: Config, *, label: str | None) -> None:
        super().__init__(config)
        data = config.data
        assert isinstance(data, SpanDataSection)
        assert isinstance(config.model, TextModelSection)
        self.reading, self.text_model = data.reading(), RunTextModel(config.model)
        self.table = data.read_rows(data.columns(), label=label, check=data.row_problem)
        self.rows = SpanRows(data, config.model, self.table)
        for notice in self.table.notices():
            log.warning("%s", notice)

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have rows."""
        return self.rows.datasets()

    def collate(self, items: list[WindowedRow]) -> Batch:
        """Return the windows of B rows: see `collate_windows`."""
        return collate_windows(items, self.rows.pad_id)

    def sample_lengths(self) -> Sequence[int] | None:
        """Return the number of tokens of each training row, where rows are to be bucketed."""
        return self.rows.sample_lengths()

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return the source of `model.weights` and the sha256 of its files."""
        return self.text_model.initial_weights()

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:
        """Do without `model.weights`."""
        self.text_model.continue_from_checkpoint(initial_weights)

    def fitted(self) -> dict[str, Any]:
        """Return the tokenizer."""
        return self.rows.tokenizer.fitted()

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Use the tokenizer of the run that is continued."""
        self.rows.tokenizer.take(fitted)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all rows with their splits, their counts, and the tokenizer's digest."""
        facts = self.table.facts()
        return {**facts, "answered": self.rows.answered(), "fitted": {"tokenizer": self.rows.tokenizer.digest}}

    def data_files(self) -> Iterable[DataFile]:
        """Give the rows of all splits."""
        return self.table.files()

    def package(self) -> dict[str, Any]:
        """Return the architecture, and the tokenizer with how it is used."""
        return {
            **self.text_model.package(),
            "reading": asdict(self.reading),
            "tokenizer": self.rows.tokenizer.as_json,
        }

    def write_package_files(self, folder: Path) -> None:
        """Write the tokenizer as transformers reads it."""
        self.rows.save_tokenizer(folder)
