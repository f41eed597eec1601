"""A plugin: the vectors task in double precision, whose metrics and log say which samples each process computed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from vectors_task import Vectors, VectorTask

from mltrain.callbacks.base import Callback, register_callback
from mltrain.core.seeding import SampleGenerator
from mltrain.tasks.base import Losses, Metrics, register_task


class DoubleVectors(Vectors):
    def load(self, index: int, generator: SampleGenerator | None) -> tuple[torch.Tensor, int, int]:
        vector, label = super().load(index, generator)
        return vector.double(), label, index


class TakenSamples(Metrics):
    """Keeps the number of every sample that counts."""

    names: ClassVar[tuple[str, ...]] = ("samples", "counted_once", "correct")

    def __init__(self) -> None:
        self.taken: list[int] = []
        self._correct = 0

    def update(self, outputs: torch.Tensor, batch: dict[str, torch.Tensor]) -> None:
        self.taken += batch["numbers"].tolist()
        self._correct += int((outputs.argmax(dim=1) == batch["labels"]).sum())

    def compute(self) -> dict[str, float]:
        once = sum(count == 1 for count in Counter(self.taken).values())
        return {"samples": len(self.taken), "counted_once": once, "correct": self._correct}

    def state(self) -> dict[str, Any]:
        return {"taken": self.taken, "correct": self._correct}

    def merge(self, state: Mapping[str, Any]) -> None:
        self.taken = [*self.taken, *state["taken"]]
        self._correct += state["correct"]


@register_task("double_vectors")
class DoubleTask(VectorTask):
    def datasets(self) -> dict[str, Any]:
        found = super().datasets()
        return {split: DoubleVectors(split, data.size, data.noise, data.bad) for split, data in found.items()}

    def collate(self, items: list[Any]) -> dict[str, torch.Tensor]:
        vectors, labels, numbers = zip(*items, strict=True)
        return {"vectors": torch.stack(vectors), "labels": torch.tensor(labels), "numbers": torch.tensor(numbers)}

    def build_model(self) -> nn.Module:
        return super().build_model().double()

    def losses(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> Losses:
        logits = model(batch["vectors"])
        values = F.cross_entropy(logits, batch["labels"], reduction="none")
        return Losses(values, logits, {"margin": (logits[:, 0] - logits[:, 1]).abs()})

    def metrics(self) -> Any:
        return TakenSamples()


@register_task("weighted_double_vectors")
class WeightedDoubleTask(DoubleTask):
    """Each example counts as its first component says."""

    def example_weights(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return 1.0 + batch["vectors"][:, 0].abs()


class MarkedVectors(DoubleVectors):
    """Says of each sample whether it is one of training."""

    def load(self, index: int, generator: SampleGenerator | None) -> Any:
        return (*super().load(index, generator), generator is not None)


@register_task("paired_double_vectors")
class PairedDoubleTask(DoubleTask):
    """Mixes neighbours in training, as mixup does."""

    @property
    def group_size(self) -> int:
        return 2

    def datasets(self) -> dict[str, Any]:
        found = VectorTask.datasets(self)
        return {split: MarkedVectors(split, data.size, data.noise, data.bad) for split, data in found.items()}

    def collate(self, items: list[Any]) -> dict[str, torch.Tensor]:
        batch = super().collate([item[:3] for item in items])
        if items[0][3]:
            partners = [min(number ^ 1, len(items) - 1) for number in range(len(items))]
            batch["vectors"] = 0.7 * batch["vectors"] + 0.3 * batch["vectors"][partners]
        return batch


@register_callback("taken_log")
class TakenLog(Callback):
    """Appends [step, samples that count] of each step to a file of this process."""

    def __init__(self, folder: str) -> None:
        self._file = Path(folder, f"taken_rank_{os.environ.get('RANK', '0')}.jsonl")
        self._before = 0

    def on_step_start(self, loop: Any) -> None:
        self._before = len(loop.meter.metrics.taken)

    def on_step_end(self, loop: Any) -> None:
        row = [loop.position.step - 1, loop.meter.metrics.taken[self._before :]]
        with self._file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
