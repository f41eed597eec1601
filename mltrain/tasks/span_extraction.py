"""`span_extraction`: the part of a text that answers a question, or that there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import nn

from mltrain.config.schema import Config
from mltrain.data.loader import Batch
from mltrain.data.text.tokenizers import tokenizer_from_json
from mltrain.models.text_models import Head
from mltrain.tasks.base import Losses, Metrics, Predict, register_task
from mltrain.tasks.reading_settings import ReadingSettings
from mltrain.tasks.run_text_model import add_packed_adapters, unpacked_text_model
from mltrain.tasks.span_decoding import span_losses, token_scores
from mltrain.tasks.span_metrics import SpanMetrics
from mltrain.tasks.span_reading import SpanReader
from mltrain.tasks.span_sections import SpanDataSection
from mltrain.tasks.text_sections import TextModelSection
from mltrain.tasks.window_prediction import WindowPredictor
from mltrain.tasks.windowed_task import WindowedTask

__all__ = ["SpanExtraction"]

_HEAD: Head = "question_answering"


@register_task("span_extraction")
class SpanExtraction(WindowedTask):
    """First and last token of the answer to a question, or to one question for all, in the texts of a table.

    The loss of a row is the mean over its windows, so that a row counts once in the mean over a step, and is what
    differential privacy protects, however long it is.
    """

    data_section = SpanDataSection
    model_section = TextModelSection
    headline: ClassVar[tuple[str, str]] = ("val/f1", "max")
    takes_evaluation_modules: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config, label=None)

    def build_model(self) -> nn.Module:
        """Return the configured model, with its initial weights and its frozen parts."""
        tokenizer = self.rows.tokenizer.tokenizer
        model = self.text_model.build(_HEAD, tokenizer, max_length=self.reading.max_length)
        return self.text_model.choose_trained(model)

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the loss of each row (see `span_losses`); the outputs are its best answer: see `best_spans`."""
        scores = token_scores(model, batch)
        values = span_losses(*scores, batch, self.config.training.label_smoothing)
        return Losses(values, self.reading.best_spans(*scores, batch))

    def metrics(self) -> Metrics:
        """Return SQuAD's exact match and F1."""
        return SpanMetrics(self.rows, self.config.evaluation.metrics)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the answer of each row, where it stands in the text, and its probability."""
        return self.rows.reader.rows(outputs)

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
