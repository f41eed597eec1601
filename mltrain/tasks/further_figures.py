"""The figures of `evaluation.metrics`, as a part of a task's accumulator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mltrain.metrics.further_modules import FurtherModules, classification_modules
from mltrain.tasks.gathered_rows import GatheredRows

__all__ = ["FurtherClassification", "FurtherFigures"]


class FurtherFigures:
    """Keeps what the user's modules take of each prediction, and feeds them once, with all of a split.

    That cannot be counted together, as nothing is known of what a module does with it: a checkpoint in mid-epoch holds
    8 bytes for each class index, and 4 for each float32, of each example since the epoch began.

    Args:
        modules: loaded and tried; None: there are none, and nothing is kept.
    """

    def __init__(self, modules: FurtherModules | None) -> None:
        self._modules = modules
        self._inputs = frozenset() if modules is None else modules.inputs
        self._rows = GatheredRows(*sorted(self._inputs))

    @property
    def names(self) -> tuple[str, ...]:
        """What `compute` gives."""
        return () if self._modules is None else self._modules.names

    def add(self, **inputs: torch.Tensor) -> None:
        """Take in a batch: a tensor (B,) or (B, C) for each input. Those that no module takes are left."""
        if self._inputs:
            self._rows.add(*(inputs[name] for name in sorted(self._inputs)))

    def compute(self) -> dict[str, float]:
        """Return the figures; NaN without examples."""
        if self._modules is None:
            return {}
        return self._modules.compute(self._rows.columns() or {"references": np.zeros(0)})

    def state(self) -> dict[str, Any]:
        """Return all rows as JSON values; nothing where there are none."""
        return self._rows.state()

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add the rows of another one. What was gathered for other modules, before a run was resumed, is left."""
        if state.keys() == self._inputs:
            self._rows.merge(state)


class FurtherClassification(FurtherFigures):
    """Further figures of single-label classification.

    Args:
        modules: folders or names: see `metrics.module_loading`.
        num_classes: number of classes, C.
        taken: names of figures that the task has itself.
    """

    def __init__(self, modules: Sequence[str], num_classes: int, taken: Collection[str]) -> None:
        super().__init__(classification_modules(modules, num_classes, taken) if modules else None)

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take in logits (B, C) and labels (B,)."""
        if not self._inputs:
            return
        inputs = {"predictions": logits.argmax(dim=-1), "references": labels}
        if "prediction_scores" in self._inputs:
            shares = logits.detach().float().softmax(dim=-1)
            inputs["prediction_scores"] = shares[:, 1] if shares.shape[1] == 2 else shares
        self.add(**inputs)
