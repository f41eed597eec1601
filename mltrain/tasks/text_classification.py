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
from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.core.registry import nearest
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.tables.columns import Column
from mltrain.data.text.encoding import TokenSettings
from mltrain.data.text.token_dataset import LabelledTokens, TokenDataset, collate_tokens
from mltrain.data.text.tokenizers import tokenizer_from_json
from mltrain.models.lora import LoraSection, add_lora, choose_trained
from mltrain.models.pretrained_configs import portable_name
from mltrain.models.registry import logits_of
from mltrain.models.text_models import (
    build_text_model,
    published_text_weights,
    refuse_text_elsewhere,
    text_inputs,
)
from mltrain.models.weight_loading import load_weights
from mltrain.models.weights import find_weights
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.image_prediction import predicted_classes
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
        self._data, self._model = config.data, config.model
        self._wanted_weights = config.model.weights
        self._initial_weights: Mapping[str, str] | None = None
        texts = [Column(config.data.text_column, "data.text_column", "text")]
        if config.data.pair_column is not None:
            texts.append(Column(config.data.pair_column, "data.pair_column", "text"))
        label = Column(config.data.label_column, "data.label_column", "label")
        self._rows = config.data.read_rows([*texts, label], label=label.name)
        self.classes = self._rows.classes()
        self._check_positive_class()
        settings = TokenSettings(config.data.max_length, config.data.truncation)
        self._texts = TokenizedRows(self._rows, [column.name for column in texts], settings, config.model)
        self._tokenizer = self._texts.tokenizer
        for notice in self._rows.notices():
            log.warning("%s", notice)
        if config.model.weights is None and (Path(config.model.architecture) / "model.safetensors").is_file():
            log.warning("The weights in %s are not used; model.weights: DEFAULT takes them.", config.model.architecture)

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
        wish = self._model
        model = build_text_model(
            wish.architecture,
            _HEAD,
            vocab_size=len(self._tokenizer.tokenizer),
            pad_id=self._texts.pad_id,
            num_labels=len(self.classes),
            max_length=self._data.max_length,
            options=wish.options,
        )
        if self._wanted_weights is not None:
            load_weights(model, find_weights(self._wanted_weights, wish.architecture, published_text_weights))
        choose_trained(model, frozen=wish.freeze, lora=wish.lora)
        return model

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return the source of `model.weights` and the sha256 of its files."""
        if self._initial_weights is None and self._wanted_weights is not None:
            source = find_weights(self._wanted_weights, self._model.architecture, published_text_weights)
            self._initial_weights = source.identity()
        return self._initial_weights

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:
        """Do without `model.weights`."""
        self._wanted_weights, self._initial_weights = None, initial_weights

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
            "architecture": portable_name(self._model.architecture),
            "options": self._model.options,
            "lora": self._model.lora and self._model.lora.model_dump(),
            "initial_weights": self.initial_weights(),
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
        if "pretrained_config" not in package:
            refuse_text_elsewhere(package["architecture"])
        model = build_text_model(
            package["architecture"],
            _HEAD,
            vocab_size=len(tokenizer),
            pad_id=int(tokenizer.pad_token_id),
            num_labels=len(classes),
            max_length=package["max_length"],
            options=package["options"],
            config=package.get("pretrained_config"),
        )
        if package.get("lora"):
            add_lora(model, LoraSection.model_validate(package["lora"]))
        settings = TokenSettings(package["max_length"], package["truncation"])
        return model, TextPredictor(model, tokenizer, settings, classes, pairs=package["pairs"])

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix of a split."""
        assert isinstance(metrics, ScoredClassification)
        write_classification_report(split, metrics.confusion, self.classes, logs=logs, reports=reports)

    def _check_positive_class(self) -> None:
        wish = self._data.positive_class
        if wish is None:
            return
        if wish not in self.classes:
            close = nearest(wish, self.classes)
            raise ConfigError(
                f"is {wish!r}, which is no class of the data",
                where="data.positive_class",
                fix=f"Did you mean {close!r}?" if close else f"Set it to one of: {', '.join(self.classes[:5])}.",
            )
        if len(self.classes) != 2:
            raise ConfigError(
                f"is set, but there are {len(self.classes)} classes: their figures are means over all of them",
                where="data.positive_class",
                fix="Leave it out.",
            )
