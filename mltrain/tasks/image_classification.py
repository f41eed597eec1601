"""`image_classification`: one label an image, from class folders or a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.image_dataset import ImageDataset
from mltrain.data.image_sources import read_image_splits
from mltrain.data.image_table import TableColumns
from mltrain.data.image_transforms import to_image
from mltrain.data.loader import Batch
from mltrain.data.mixing import mix_pairs
from mltrain.data.recorded_files import RecordedFiles
from mltrain.models.lora import LoraSection, add_lora, choose_trained
from mltrain.models.pretrained_configs import portable_name
from mltrain.models.registry import build_image_model, logits_of, refuse_elsewhere
from mltrain.models.weight_loading import load_weights
from mltrain.models.weights import find_weights
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.classification_metrics import ClassificationMetrics
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.image_pipeline import ImagePipeline
from mltrain.tasks.image_prediction import ImagePredictor, predicted_classes
from mltrain.tasks.image_sections import ImageDataSection, ImageModelSection

__all__ = ["ImageClassification"]


@register_task("image_classification")
class ImageClassification(Task):
    """Cross-entropy over the classes of the images in `data.data_dir`: see `data.image_sources` for their layouts."""

    data_section = ImageDataSection
    model_section = ImageModelSection
    headline: ClassVar[tuple[str, str]] = ("val/accuracy", "max")
    takes_evaluation_modules: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, ImageDataSection)
        assert isinstance(config.model, ImageModelSection)
        self._data, self._model = config.data, config.model
        self._wanted_weights = config.model.weights
        self._initial_weights: Mapping[str, str] | None = None
        self.pipeline = ImagePipeline.from_section(config.data)
        self._splits = read_image_splits(
            Path(config.data.data_dir),
            config.data.fold,
            splits_dir=Path(config.data.splits_dir) if config.data.splits_dir else None,
            table=config.data.table,
            columns=TableColumns(config.data.path_column, config.data.label_column, split=config.data.split_column),
            on_corrupt=config.data.on_corrupt,
        )
        self.classes = self._splits.classes
        self._check_classes()
        for notice in self._splits.notices():
            log.warning("%s", notice)
        if config.model.weights is None and (Path(config.model.architecture) / "model.safetensors").is_file():
            log.warning("The weights in %s are not used; model.weights: DEFAULT takes them.", config.model.architecture)

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have files."""
        index = {name: number for number, name in enumerate(self.classes)}
        return {
            split: ImageDataset(
                RecordedFiles(self._splits.root, part.paths, self._splits.contents),
                [index[label] for label in part.labels],
                self.pipeline.transform,
                self.pipeline.mixing,
            )
            for split, part in self._splits.splits.items()
            if part.paths
        }

    def collate(self, items: list[Any]) -> Batch:
        """Return pixels, uint8 (B, C, H, W), and labels, int64 (B,).

        Where images are mixed, also the label that each took in, `partner_labels`, int64 (B,), and the share of the
        target that stayed its own, `own_shares`, float32 (B,).
        """
        pixels, labels, *mixes = zip(*items, strict=True)
        batch = {"pixels": torch.stack(pixels), "labels": torch.tensor(labels)}
        if mixes:
            batch["pixels"], partners, batch["own_shares"] = mix_pairs(batch["pixels"], mixes[0])
            batch["partner_labels"] = batch["labels"][partners]
        return batch

    @property
    def group_size(self) -> int:
        """2 where neighbours are mixed."""
        return 1 if self.pipeline.mixing is None else 2

    def preview(self, batch: Batch) -> list[tuple[Image.Image, str]]:
        """Return the pixels of each image with its class, or both classes where it is mixed."""
        names = [self.classes[label] for label in batch["labels"].tolist()]
        if "partner_labels" in batch:
            partners = [self.classes[label] for label in batch["partner_labels"].tolist()]
            mixed = zip(names, batch["own_shares"].tolist(), partners, strict=True)
            names = [own if share == 1 else f"{share:.0%} {own}, {partner}" for own, share, partner in mixed]
        return list(zip(map(to_image, batch["pixels"]), names, strict=True))

    def build_model(self) -> nn.Module:
        """Return the configured classifier, with its initial weights and its frozen parts."""
        wish = self._model
        model = build_image_model(
            wish.architecture,
            num_classes=len(self.classes),
            channels=self.pipeline.channels,
            image_size=self.pipeline.transform.image_size,
            options=wish.options,
        )
        if self._wanted_weights is not None:
            load_weights(model, find_weights(self._wanted_weights, wish.architecture))
        choose_trained(model, frozen=wish.freeze, lora=wish.lora)
        return model

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return the source of `model.weights` and the sha256 of its files."""
        if self._initial_weights is None and self._wanted_weights is not None:
            self._initial_weights = find_weights(self._wanted_weights, self._model.architecture).identity()
        return self._initial_weights

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:
        """Do without `model.weights`."""
        self._wanted_weights, self._initial_weights = None, initial_weights

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return cross-entropy per image, of a mixed one with both labels in proportion; the outputs: logits (B, C)."""
        logits = logits_of(model(self.pipeline.normalization.apply(batch["pixels"])))
        values = self._cross_entropy(logits, batch["labels"])
        if "partner_labels" in batch:
            # Cross-entropy is linear in its target.
            values = values.lerp(self._cross_entropy(logits, batch["partner_labels"]), 1 - batch["own_shares"])
        return Losses(values, logits)

    def _cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smoothing = self.config.training.label_smoothing
        return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=smoothing)

    def metrics(self) -> Metrics:
        """Return accuracy, macro precision, recall and F1, and further figures."""
        return ClassificationMetrics(len(self.classes), further=self.config.evaluation.metrics)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted class and its probability for each image."""
        return predicted_classes(outputs, self.classes)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all files with their splits, the classes and their counts."""
        return self._splits.facts()

    def data_files(self) -> Iterable[DataFile]:
        """Give the files of all splits."""
        return self._splits.files()

    def package(self) -> dict[str, Any]:
        """Return the architecture, the classes and the pipeline."""
        return {
            "architecture": portable_name(self._model.architecture),
            "options": self._model.options,
            "lora": self._model.lora and self._model.lora.model_dump(),
            "initial_weights": self.initial_weights(),
            "classes": self.classes,
            "pipeline": self.pipeline.to_json(),
        }

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (images) -> rows of predictions."""
        pipeline = ImagePipeline.from_json(package["pipeline"])
        classes: list[str] = package["classes"]
        if "pretrained_config" not in package:
            refuse_elsewhere(package["architecture"])
        model = build_image_model(
            package["architecture"],
            num_classes=len(classes),
            channels=pipeline.channels,
            image_size=pipeline.transform.image_size,
            options=package["options"],
            config=package.get("pretrained_config"),
        )
        if package.get("lora"):
            add_lora(model, LoraSection.model_validate(package["lora"]))
        return model, ImagePredictor(model, pipeline, classes)

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix of a split."""
        assert isinstance(metrics, ClassificationMetrics)
        write_classification_report(split, metrics.confusion, self.classes, logs=logs, reports=reports)

    def _check_classes(self) -> None:
        wish = self._model.num_classes
        if wish != "auto" and wish != len(self.classes):
            raise ConfigError(
                f"is {wish}, but the data has {len(self.classes)} classes ({', '.join(self.classes[:5])}"
                f"{', ...' if len(self.classes) > 5 else ''})",
                where="model.num_classes",
                fix=f"Set it to auto or {len(self.classes)}.",
            )
