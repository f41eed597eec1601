"""`text_classification`: one label a text, or a pair of texts, from a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.logging import log
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.tables.columns import Column
from mltrain.data.text.encoding import TokenSettings
from mltrain.data.text.token_dataset import LabelledTokens, TokenDataset, collate_tokens
from mltrain.data.text.tokenizers import tokenizer_from_json
from mltrain.models.registry import logits_of
from mltrain.models.text_models import text_inputs
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.image_prediction import predicted_classes
from mltrain.tasks.positive_class import check_positive_class
from mltrain.tasks.run_text_model import RunTextModel, add_packed_adapters, unpacked_text_model
from mltrain.tasks.scored_classification import ScoredClassification
from mltrain.tasks.text_prediction import TextPredictor
from mltrain.tasks.text_sections import TextClassificationSection, TextModelSection
from mltrain.tasks.tokenized_rows import TokenizedRows

__all__ = ["TextClassification"]

_HEAD: Final = "sequence_classification"


@register_task("text_classification")
class TextClassification(Task):
    """Cross-entropy over the classes of the texts in a table."""

    data_section = TextClassificationSection
    model_section = TextModelSection
    headline: ClassVar[tuple[str, str]] = ("val/f1_macro", "max")
    takes_evaluation_modules: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, TextClassificationSection)
        assert isinstance(config.model, TextModelSection)
        self._data, self._model = config.data, RunTextModel(config.model)
        texts = [Column(config.data.text_column, "data.text_column", "text")]
        if config.data.pair_column is not None:
            texts.append(Column(config.data.pair_column, "data.pair_column", "text"))
        label = Column(config.data.label_column, "data.label_column", "label")
        self._rows = config.data.read_rows([*texts, label], label=label.name)
        self.classes = self._rows.classes()
        check_positive_class(config.data.positive_class, self.classes)
        settings = TokenSettings(config.data.max_length, config.data.truncation)
        self._texts = TokenizedRows(self._rows, [column.name for column in texts], settings, config.model)
        self._tokenizer = self._texts.tokenizer
        for notice in self._rows.notices():
            log.warning("%s", notice)

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have rows."""
        labels = self._rows.values(self._data.label_column)
        index = {name: number for number, name in enumerate(self.classes)}
        return {
            split: TokenDataset(
                self._texts.tokens[split],
                [index[labels[row]] for row in rows.tolist()],
                [self._rows.ids[row] for row in rows.tolist()],
            )
            for split, rows in self._rows.splits.items()
        }

    def collate(self, items: list[LabelledTokens]) -> Batch:
        """Return `input_ids`, `attention_mask` and of pairs `token_type_ids`, int64 (B, L), and `labels`, int64 (B,).

        L is the length of the longest text; the others are filled up behind their end, which the mask tells.
        """
        return collate_tokens(items, self._texts.pad_id)

    def sample_lengths(self) -> NDArray[np.integer] | None:
        """Return the number of tokens of each training text, where they are to be bucketed."""
        return self._texts.tokens["train"].lengths if self._data.length_bucketing else None

    def build_model(self) -> nn.Module:
        """Return the configured classifier, with its initial weights and its frozen parts."""
        tokenizer = self._tokenizer.tokenizer
        return self._model.choose_trained(
            self._model.build(_HEAD, tokenizer, max_length=self._data.max_length, num_labels=len(self.classes))
        )

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return the source of `model.weights` and the sha256 of its files."""
        return self._model.initial_weights()

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:
        """Do without `model.weights`."""
        self._model.continue_from_checkpoint(initial_weights)

    def fitted(self) -> dict[str, Any]:
        """Return the tokenizer."""
        return self._tokenizer.fitted()

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Use the tokenizer of the run that is continued."""
        self._tokenizer.take(fitted)

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return cross-entropy per text; the outputs: logits (B, C)."""
        logits = logits_of(model(**text_inputs(model, batch)))
        smoothing = self.config.training.label_smoothing
        values = F.cross_entropy(logits.float(), batch["labels"], reduction="none", label_smoothing=smoothing)
        return Losses(values, logits)

    def metrics(self) -> Metrics:
        """Return accuracy, precision, recall, F1 and AUROC."""
        return ScoredClassification(
            self.classes, positive=self._data.positive_class, further=self.config.evaluation.metrics
        )

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted class and its probability for each text."""
        return predicted_classes(outputs, self.classes)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all rows with their splits, the classes and their counts, and the tokenizer's digest."""
        return {**self._rows.facts(), "fitted": {"tokenizer": self._tokenizer.digest}}

    def data_files(self) -> Iterable[DataFile]:
        """Give the rows of all splits."""
        return self._rows.files()

    def package(self) -> dict[str, Any]:
        """Return the architecture, the classes and the tokenizer with how it is used."""
        return {
            **self._model.package(),
            "classes": self.classes,
            "max_length": self._data.max_length,
            "truncation": self._data.truncation,
            "pairs": self._data.pair_column is not None,
            "tokenizer": self._tokenizer.as_json,
        }

    def write_package_files(self, folder: Path) -> None:
        """Write the tokenizer as transformers reads it."""
        tokenizer = tokenizer_from_json(self._tokenizer.as_json)
        tokenizer.model_max_length = self._data.max_length
        tokenizer.save_pretrained(str(folder))

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (texts) -> rows of predictions."""
        tokenizer = tokenizer_from_json(package["tokenizer"])
        classes: list[str] = package["classes"]
        model = unpacked_text_model(
            package,
            _HEAD,
            tokenizer,
            max_length=package["max_length"],
            num_labels=len(classes),
            config=package.get("pretrained_config"),
        )
        add_packed_adapters(model, package)
        settings = TokenSettings(package["max_length"], package["truncation"])
        return model, TextPredictor(model, tokenizer, settings, classes, pairs=package["pairs"])

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix of a split."""
        assert isinstance(metrics, ScoredClassification)
        write_classification_report(split, metrics.confusion, self.classes, logs=logs, reports=reports)
