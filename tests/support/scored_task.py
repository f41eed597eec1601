"""The vectors with scores and as a regression, for metrics of all predictions and modules of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mltrain.core.plugins import load_plugins
from mltrain.tasks.base import TASKS, Losses, register_task
from mltrain.tasks.scored_classification import ScoredClassification
from mltrain.tasks.scored_regression import ScoredRegression

load_plugins([str(Path(__file__).with_name("vectors_task.py"))])
VectorTask: Any = TASKS.get("vectors")


@register_task("scored_vectors")
class ScoredVectors(VectorTask):
    takes_evaluation_modules = True

    def metrics(self) -> ScoredClassification:
        return ScoredClassification(["no", "yes"], positive=None, further=self.config.evaluation.metrics)


@register_task("measured_vectors")
class MeasuredVectors(VectorTask):
    """The first component, from the others."""

    takes_evaluation_modules = True

    def collate(self, items: list[Any]) -> dict[str, torch.Tensor]:
        batch = super().collate(items)
        return {"vectors": batch["vectors"], "targets": batch["vectors"][:, 0]}

    def build_model(self) -> nn.Module:
        return nn.Linear(8, 1)

    def losses(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> Losses:
        outputs = model(batch["vectors"])[:, 0]
        return Losses((outputs - batch["targets"]) ** 2, outputs)

    def metrics(self) -> ScoredRegression:
        return ScoredRegression(further=self.config.evaluation.metrics)

    def metric_names(self) -> tuple[str, ...]:
        return ("loss", *self.metrics().names)
