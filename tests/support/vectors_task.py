"""A small task, as a user would write one: Gaussian vectors, two classes, augmentation, dropout if wanted."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mltrain.config.section import DataSection, ModelSection
from mltrain.core.seeding import SampleGenerator
from mltrain.tasks.base import Losses, Task, register_task
from mltrain.tasks.classification_metrics import ClassificationMetrics

WIDTH = 8


class VectorData(DataSection):
    """How many samples there are."""

    data_dir: str = "vectors"
    train_size: int = 50
    val_size: int = 21
    noise: float = 0.1
    bad_sample: int = -1


class VectorModel(ModelSection):
    """The network."""

    architecture: str = "mlp"
    dropout: float = 0.0
    batch_norm: bool = False


class Vectors:
    """Samples drawn from their IDs, with noise from their own generator in training."""

    def __init__(self, split: str, size: int, noise: float, bad: int) -> None:
        self.split, self.size, self.noise, self.bad = split, size, noise, bad

    def __len__(self) -> int:
        return self.size

    def sample_id(self, index: int) -> str:
        return f"{self.split}/{index}"

    def load(self, index: int, generator: SampleGenerator | None) -> tuple[torch.Tensor, int]:
        seed = int.from_bytes(hashlib.sha256(self.sample_id(index).encode()).digest()[:4], "little")
        vector = torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))
        label = int(vector[0] + vector[1] * vector[2] > 0)
        if generator is not None:
            vector = vector + self.noise * torch.tensor([generator.random() - 0.5 for _ in range(WIDTH)])
        if index == self.bad and self.split == "train":
            vector = vector * float("nan")
        return vector, label


@register_task("vectors")
class VectorTask(Task):
    data_section = VectorData
    model_section = VectorModel
    headline = ("val/loss", "min")

    def datasets(self) -> dict[str, Any]:
        data = self.config.data
        assert isinstance(data, VectorData)
        sizes = {"train": data.train_size, "val": data.val_size, "test": 17}
        return {split: Vectors(split, size, data.noise, data.bad_sample) for split, size in sizes.items() if size}

    def collate(self, items: list[Any]) -> dict[str, torch.Tensor]:
        vectors, labels = zip(*items, strict=True)
        return {"vectors": torch.stack(vectors), "labels": torch.tensor(labels)}

    def build_model(self) -> nn.Module:
        assert isinstance(self.config.model, VectorModel)
        drop = nn.Dropout(self.config.model.dropout)
        norm = [nn.BatchNorm1d(16)] if self.config.model.batch_norm else []
        return nn.Sequential(nn.Linear(WIDTH, 16), *norm, nn.Tanh(), drop, nn.Linear(16, 2))

    def losses(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> Losses:
        logits = model(batch["vectors"])
        values = F.cross_entropy(logits, batch["labels"], reduction="none")
        return Losses(values, logits, {"margin": (logits[:, 0] - logits[:, 1]).abs()})

    def metrics(self) -> ClassificationMetrics:
        return ClassificationMetrics(2)

    def metric_names(self) -> tuple[str, ...]:
        return ("loss", "margin", *self.metrics().names)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        return [{"class": int(index)} for index in outputs.argmax(dim=1)]

    def data_facts(self) -> dict[str, Any]:
        data = self.config.data
        assert isinstance(data, VectorData)
        return {"digest": hashlib.sha256(f"{data.train_size} {data.val_size} {data.noise}".encode()).hexdigest()}


@register_task("weighted_vectors")
class WeightedVectorTask(VectorTask):
    """Each example counts as much as its first component says: as tokens count in a sequence."""

    def example_weights(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return 1.0 + batch["vectors"][:, 0].abs().nan_to_num()


@register_task("fitted_vectors")
class FittedVectorTask(VectorTask):
    """Has computed something from the training data before training."""

    def fitted(self) -> dict[str, Any]:
        return {"means": [0.0] * WIDTH}
