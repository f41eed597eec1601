"""`span_extraction`: the part of a text that answers a question, or that there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from mltrain.config.schema import Config
from mltrain.core.logging import log
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.text.tokenizers import tokenizer_from_json
from mltrain.data.text.window_dataset import WindowedRow, collate_windows
from mltrain.models.text_models import Head
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.reading_settings import ReadingSettings
from mltrain.tasks.run_text_model import RunTextModel, add_packed_adapters, unpacked_text_model
from mltrain.tasks.span_decoding import span_losses, token_scores
from mltrain.tasks.span_metrics import SpanMetrics
from mltrain.tasks.span_reading import SpanReader
from mltrain.tasks.span_rows import SpanRows
from mltrain.tasks.span_sections import SpanDataSection
from mltrain.tasks.text_sections import TextModelSection
from mltrain.tasks.window_prediction import WindowPredictor

__all__ = ["SpanExtraction"]

_HEAD: Head = "question_answering"


@register_task("span_extraction")
class SpanExtraction(Task):
    """First and last token of the answer to a question, or to one question for all, in the texts of a table.

    An example is a row of the table, with all its windows: its loss is the mean over them, so that a row counts once in
    the mean over a step, and is what differential privacy protects, however long it is.
    """

    data_section = SpanDataSection
    model_section = TextModelSection
    headline: ClassVar[tuple[str, str]] = ("val/f1", "max")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, SpanDataSection)
        assert isinstance(config.model, TextModelSection)
        self._reading, self._model = config.data.reading(), RunTextModel(config.model)
        self._table = config.data.read_rows(config.data.columns(), label=None, check=config.data.row_problem)
        self.rows = SpanRows(config.data, config.model, self._table)
        for notice in self._table.notices():
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

    def build_model(self) -> nn.Module:
        """Return the configured model, with its initial weights and its frozen parts."""
        tokenizer = self.rows.tokenizer.tokenizer
        return self._model.choose_trained(self._model.build(_HEAD, tokenizer, max_length=self._reading.max_length))

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return the source of `model.weights` and the sha256 of its files."""
        return self._model.initial_weights()

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:
        """Do without `model.weights`."""
        self._model.continue_from_checkpoint(initial_weights)

    def fitted(self) -> dict[str, Any]:
        """Return the tokenizer."""
        return self.rows.tokenizer.fitted()

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Use the tokenizer of the run that is continued."""
        self.rows.tokenizer.take(fitted)

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the loss of each row (see `span_losses`); the outputs are its best answer: see `best_spans`."""
        scores = token_scores(model, batch)
        values = span_losses(*scores, batch, self.config.training.label_smoothing)
        return Losses(values, self._reading.best_spans(*scores, batch))

    def metrics(self) -> Metrics:
        """Return SQuAD's exact match and F1."""
        return SpanMetrics(self.rows)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the answer of each row, where it stands in the text, and its probability."""
        return self.rows.reader.rows(outputs)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all rows with their splits, their counts, and the tokenizer's digest."""
        facts = self._table.facts()
        return {**facts, "answered": self.rows.answered(), "fitted": {"tokenizer": self.rows.tokenizer.digest}}

    def data_files(self) -> Iterable[DataFile]:
        """Give the rows of all splits."""
        return self._table.files()

    def package(self) -> dict[str, Any]:
        """Return the architecture and the tokenizer with how it is used."""
        return {
            **self._model.package(),
            "reading": asdict(self._reading),
            "tokenizer": self.rows.tokenizer.as_json,
        }

    def write_package_files(self, folder: Path) -> None:
        """Write the tokenizer as transformers reads it."""
        self.rows.save_tokenizer(folder)

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (texts) -> rows of answers."""
        tokenizer, reading = tokenizer_from_json(package["tokenizer"]), ReadingSettings(**package["reading"])
        model = unpacked_text_model(
            package, _HEAD, tokenizer, max_length=reading.max_length, config=package.get("pretrained_config")
        )

        def rows_of(model: nn.Module, batch: Batch, reader: SpanReader) -> list[dict[str, Any]]:
            return reader.rows(reading.best_spans(*token_scores(model, batch), batch))

        return model, WindowPredictor(add_packed_adapters(model, package), tokenizer, reading, rows_of)
