"""`image_classification`: one label an image, from class folders."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import content_digests
from mltrain.data.dataset import SampleDataset
from mltrain.data.image_dataset import ImageDataset
from mltrain.data.image_decoding import decode_image
from mltrain.data.loader import Batch
from mltrain.data.splits import FoldFiles, class_of, read_split
from mltrain.models.registry import build_image_model, logits_of
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.classification_metrics import ClassificationMetrics
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.image_pipeline import ImagePipeline
from mltrain.tasks.image_sections import ImageDataSection, ImageModelSection

__all__ = ["ImageClassification"]


@register_task("image_classification")
class ImageClassification(Task):
    """Cross-entropy over the class folders of `data.data_dir`, split by the files that `ml-split` writes."""

    data_section = ImageDataSection
    model_section = ImageModelSection
    headline: ClassVar[tuple[str, str]] = ("val/accuracy", "max")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, ImageDataSection)
        assert isinstance(config.model, ImageModelSection)
        self._data, self._model = config.data, config.model
        self.pipeline = ImagePipeline.from_section(config.data)
        self._root = Path(config.data.data_dir)
        splits_dir = Path(config.data.splits_dir) if config.data.splits_dir else self._root / "splits"
        self._files = read_split(splits_dir, config.data.fold)
        self.classes = list(self._files.classes)
        self._check_files()
        self._check_classes()

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have files."""
        index = {name: number for number, name in enumerate(self.classes)}
        return {
            split: ImageDataset(self._root, paths, [index[class_of(path)] for path in paths], self.pipeline.transform)
            for split, paths in self._paths().items()
            if paths
        }

    def collate(self, items: list[Any]) -> Batch:
        """Return pixels, uint8 (B, C, H, W), and labels, int64 (B,)."""
        pixels, labels = zip(*items, strict=True)
        return {"pixels": torch.stack(pixels), "labels": torch.tensor(labels)}

    def build_model(self) -> nn.Module:
        """Return the configured classifier."""
        return build_image_model(
            self._model.architecture,
            num_classes=len(self.classes),
            channels=self.pipeline.channels,
            image_size=self.pipeline.transform.image_size,
            options=self._model.options,
        )

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return cross-entropy per image; the outputs are the logits (B, C)."""
        logits = logits_of(model(self.pipeline.normalization.apply(batch["pixels"])))
        smoothing = self.config.training.label_smoothing
        values = F.cross_entropy(logits.float(), batch["labels"], reduction="none", label_smoothing=smoothing)
        return Losses(values, logits)

    def metrics(self) -> Metrics:
        """Return accuracy and macro precision, recall and F1."""
        return ClassificationMetrics(len(self.classes))

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the predicted class and its probability for each image."""
        return predicted_classes(outputs, self.classes)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all files with their splits, the classes and their counts."""
        paths = self._paths()
        digests = self._digests([path for split in paths.values() for path in split])
        content = {split: sorted((path, digests[path]) for path in files) for split, files in paths.items()}
        counts = {split: dict(sorted(Counter(map(class_of, files)).items())) for split, files in paths.items()}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return {"digest": digest, "classes": self.classes, "counts": counts}

    def package(self) -> dict[str, Any]:
        """Return the architecture, the classes and the pipeline."""
        return {
            "architecture": self._model.architecture,
            "options": self._model.options,
            "classes": self.classes,
            "pipeline": self.pipeline.to_json(),
        }

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (images) -> rows of predictions."""
        pipeline = ImagePipeline.from_json(package["pipeline"])
        classes: list[str] = package["classes"]
        model = build_image_model(
            package["architecture"],
            num_classes=len(classes),
            channels=pipeline.channels,
            image_size=pipeline.transform.image_size,
            options=package["options"],
        )

        def predict(images: Sequence[str | Path]) -> list[dict[str, Any]]:
            if not images:
                return []
            transform = pipeline.transform
            decoded = (decode_image(Path(image), transform.mode, min_side=transform.min_side) for image in images)
            pixels = torch.stack([transform(image, None) for image in decoded])
            device = next(model.parameters()).device
            with torch.inference_mode():
                logits = logits_of(model(pipeline.normalization.apply(pixels.to(device))))
            return predicted_classes(logits, classes)

        return model, predict

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix of a split."""
        assert isinstance(metrics, ClassificationMetrics)
        write_classification_report(split, metrics.confusion, self.classes, logs=logs, reports=reports)

    def _paths(self) -> dict[str, Sequence[str]]:
        files: FoldFiles = self._files
        return {"train": files.train, "val": files.val, "test": files.test}

    def _digests(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the content digest of each file: as `ml-split` recorded it, or read now for hand-made splits."""
        if self._files.digests:
            return {path: self._files.digests[path].digest for path in paths}
        return dict(zip(paths, content_digests([self._root / path for path in paths]), strict=True))

    def _check_files(self) -> None:
        for paths in self._paths().values():
            for path in paths:
                try:
                    size = (self._root / path).stat().st_size
                except OSError:
                    raise DataError(
                        "is named in the split but is not there",
                        where=str(self._root / path),
                        fix="Put it back, or run ml-split again.",
                    ) from None
                recorded = self._files.digests.get(path)
                if recorded is not None and size != recorded.size:
                    raise DataError(
                        f"has {size} bytes; it had {recorded.size} when it was split",
                        where=str(self._root / path),
                        fix="Put the old file back, or run ml-split again with --overwrite.",
                    )

    def _check_classes(self) -> None:
        wish = self._model.num_classes
        if wish != "auto" and wish != len(self.classes):
            raise ConfigError(
                f"is {wish}, but the data has {len(self.classes)} classes ({', '.join(self.classes[:5])}"
                f"{', ...' if len(self.classes) > 5 else ''})",
                where="model.num_classes",
                fix=f"Set it to auto or {len(self.classes)}.",
            )


def predicted_classes(logits: torch.Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return, for logits (B, C), one row an example: the most probable class and its probability."""
    probability, index = logits.float().softmax(dim=-1).max(dim=-1)
    rows = zip(index.tolist(), probability.tolist(), strict=True)
    return [{"class": classes[number], "probability": share} for number, share in rows]
