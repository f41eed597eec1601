"""`joint`: the class of a text, and the part of it that says why, by one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.text.tokenizers import tokenizer_from_json
from mltrain.metrics.further_modules import of_texts
from mltrain.models.joint_text import JointOutput, build_joint_model
from mltrain.models.text_models import Head
from mltrain.models.windowed import over_windows
from mltrain.tasks.base import Losses, Metrics, Predict, register_task
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.image_prediction import predicted_classes
from mltrain.tasks.joint_metrics import JointMetrics
from mltrain.tasks.joint_sections import JointDataSection, JointModelSection, LossWeightsSection
from mltrain.tasks.positive_class import check_positive_class
from mltrain.tasks.reading_settings import ReadingSettings
from mltrain.tasks.run_text_model import add_packed_adapters, unpacked_text_model
from mltrain.tasks.scored_classification import ScoredClassification
from mltrain.tasks.span_decoding import span_losses
from mltrain.tasks.span_metrics import SpanMetrics
from mltrain.tasks.span_reading import SpanReader
from mltrain.tasks.window_prediction import WindowPredictor
from mltrain.tasks.windowed_task import WindowedTask

__all__ = ["Joint"]

_LOSSES = ("classification_loss", "span_loss")
_WEIGHTS = ("classification_weight", "span_weight")


@register_task("joint")
class Joint(WindowedTask):
    """Classification of texts, and spans in them: see `TextClassification` and `SpanExtraction`.

    The class scores of a row are the mean over its windows. Its loss is the weighted sum of the cross-entropy of the
    class and the loss of the span. Learned weights are those of Kendall et al. 2018
    ("Multi-task learning using uncertainty to weigh losses"): with the logarithm s of a task's variance, a loss L
    counts as exp(-s) L + s / 2, so that the whole may fall below 0.
    """

    data_section = JointDataSection
    model_section = JointModelSection
    headline: ClassVar[tuple[str, str]] = ("val/score", "max")
    takes_evaluation_modules: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        assert isinstance(config.data, JointDataSection)
        assert isinstance(config.model, JointModelSection)
        self._data, self._wish = config.data, config.model
        super().__init__(config, label=config.data.label_column)
        weights = config.model.loss_weights
        if isinstance(weights, LossWeightsSection) and weights.classification == weights.span == 0:
            raise ConfigError(
                "classification and span are both 0", where="model.loss_weights", fix="Give one of them a weight."
            )
        self.classes = self.table.classes()
        check_positive_class(config.data.positive_class, self.classes)
        self.metrics()  # whose weights are checked before any compute

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have rows."""
        index = {name: number for number, name in enumerate(self.classes)}
        labels = self.table.values(self._data.label_column)
        return self.rows.datasets(np.asarray([index.get(label, -1) for label in labels]))

    def build_model(self) -> nn.Module:
        """Return the configured model, with its initial weights and its frozen parts."""
        tokenizer, length, count = self.rows.tokenizer.tokenizer, self.reading.max_length, len(self.classes)

        def build(head: Head) -> nn.Module:
            # Of two models side by side the classifier alone pools.
            left_out = ("pooling",) if head == "question_answering" else ()
            return self.text_model.build(head, tokenizer, max_length=length, num_labels=count, left_out=left_out)

        return self.text_model.choose_trained(build_joint_model(build, **self._shape()))

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the weighted loss of each row, and its parts; the outputs are class scores and the best answer."""
        logits, starts, ends, log_variances = _scores(model, batch)
        smoothing = self.config.training.label_smoothing
        classification = F.cross_entropy(logits.float(), batch["labels"], reduction="none", label_smoothing=smoothing)
        both = torch.stack([classification, span_losses(starts, ends, batch, smoothing)], dim=1)
        parts = dict(zip(_LOSSES, both.unbind(dim=1), strict=True))
        outputs = {"logits": logits, **self.reading.best_spans(starts, ends, batch)}
        if isinstance(self._wish.loss_weights, LossWeightsSection):
            fixed = self._wish.loss_weights
            return Losses(fixed.classification * both[:, 0] + fixed.span * both[:, 1], outputs, parts)
        weights = (-log_variances).exp()
        parts |= zip(_WEIGHTS, weights.unbind(dim=1), strict=True)
        return Losses((weights * both + log_variances / 2).sum(dim=1), outputs, parts)

    def metrics(self) -> Metrics:
        """Return the metrics of both tasks and their score."""
        further = self.config.evaluation.metrics
        of_classes = [name for name in further if not of_texts(name)]
        return JointMetrics(
            ScoredClassification(self.classes, positive=self._data.positive_class, further=of_classes),
            SpanMetrics(self.rows, [name for name in further if name not in of_classes]),
            self._wish.score_weights,
        )

    def metric_names(self) -> tuple[str, ...]:
        """Return the names that are logged for each split."""
        learned = () if isinstance(self._wish.loss_weights, LossWeightsSection) else _WEIGHTS
        return ("loss", *_LOSSES, *learned, *self.metrics().names)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the class of each row and its probability, its answer, where it stands, and its probability."""
        return _prediction_rows(outputs, self.rows.reader, self.classes)

    def package(self) -> dict[str, Any]:
        """Return the architecture, the shape of the model, the classes, and the tokenizer with how it is used."""
        return {
            **super().package(),
            "joint": self._shape(),
            "configs": self.text_model.configs,
            "classes": self.classes,
        }

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (texts) -> rows of classes and answers."""
        tokenizer, reading = tokenizer_from_json(package["tokenizer"]), ReadingSettings(**package["reading"])
        classes: list[str] = package["classes"]

        def build(head: Head) -> nn.Module:
            config, count = package["configs"][head], len(classes)
            return unpacked_text_model(
                package, head, tokenizer, max_length=reading.max_length, num_labels=count, config=config
            )

        def rows_of(model: nn.Module, batch: Batch, reader: SpanReader) -> list[dict[str, Any]]:
            logits, starts, ends, _ = _scores(model, batch)
            return _prediction_rows({"logits": logits, **reading.best_spans(starts, ends, batch)}, reader, classes)

        model = add_packed_adapters(build_joint_model(build, **package["joint"]), package)
        return model, WindowPredictor(model, tokenizer, reading, rows_of)

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix of a split."""
        assert isinstance(metrics, JointMetrics)
        write_classification_report(split, metrics.confusion, self.classes, logs=logs, reports=reports)

    def _shape(self) -> dict[str, Any]:
        return {
            "num_labels": len(self.classes),
            "shared_encoder": self._wish.shared_encoder,
            "head_dropout": self._wish.head_dropout,
            "learned_weights": self._wish.loss_weights == "uncertainty",
        }


def _scores(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return class scores (B, C), the scores of tokens (B, W, L) twice, and log-variances (B, 2)."""
    found = over_windows(model, batch, lambda part, inputs: part(**inputs), JointOutput._fields)
    real = batch["windows"].unsqueeze(-1)
    logits = torch.where(real, found["logits"], 0.0).sum(dim=1) / real.sum(dim=1)
    return logits, found["start_logits"], found["end_logits"], found["log_variances"][:, 0]


def _prediction_rows(outputs: Mapping[str, Tensor], reader: SpanReader, classes: Sequence[str]) -> list[dict[str, Any]]:
    pairs = zip(predicted_classes(outputs["logits"], classes), reader.rows(outputs), strict=True)
    return [{**named, **answer} for named, answer in pairs]
