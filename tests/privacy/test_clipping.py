"""The sum of clipped gradients, against one example at a time."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from per_example import clipped_sum_by_hand, cross_entropies, relative_error
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.privacy.clipping import ClippedGradients

MODES = ["hooks", "ghost"]
BOUND = 1.2


class Scale(nn.Module):
    """A layer without a rule of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.linspace(0.5, 1.5, width))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.factors.tanh()


class Everything(nn.Module):
    """Each layer that has a rule of its own, and one that has none; changes in place; a head that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6, padding_idx=0)
        self.along = nn.Conv1d(6, 8, 3, padding="same", groups=2)
        self.scale = Scale(8)
        self.plane = nn.Conv2d(1, 4, (3, 2), stride=2, padding=(1, 0), bias=False)
        self.point = nn.Conv2d(4, 4, 1)
        self.groups = nn.GroupNorm(2, 4)
        self.norm = nn.LayerNorm(4, bias=False)
        self.inner = nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)
        self.unused = nn.Linear(5, 2)

    def forward(self, words: Tensor) -> Tensor:
        along = self.scale(self.along(self.words(words).transpose(1, 2)).transpose(1, 2))
        plane = self.plane(along.unsqueeze(1))
        plane = F.relu_(self.groups(plane)) + self.point(plane)
        features = F.relu_(self.inner(self.norm(plane.flatten(2).transpose(1, 2)))).mean(1)
        self.unused(features)
        return self.head(features)


def everything(batch: int = 6) -> tuple[Everything, Tensor, Tensor]:
    torch.manual_seed(3)
    return Everything(), torch.randint(0, 11, (batch, 9)), torch.randint(0, 3, (batch,))


def assert_as_by_hand(
    model: nn.Module, mode: Any, inputs: Tensor, targets: Tensor, bound: float = BOUND, **how: Any
) -> Tensor:
    clipped = ClippedGradients(model, bound, mode)
    norms = clipped.add(how.get("losses_of", cross_entropies)(model, inputs, targets))
    clipped.close()
    sums, expected = clipped_sum_by_hand(model, inputs, targets, bound, **how)
    again = ClippedGradients(model, bound, mode)
    again.add(how.get("losses_of", cross_entropies)(model, inputs, targets))
    assert relative_error(again.sums, sums) < 1e-6
    assert relative_error([norms], [expected]) < 1e-6
    again.close()
    return norms


@pytest.mark.parametrize("mode", MODES)
def test_each_kind_of_layer(mode: Any) -> None:
    model, inputs, targets = everything()
    norms = assert_as_by_hand(model, mode, inputs, targets)
    assert norms.min() < BOUND < norms.max()
    assert all(parameter.grad is None for parameter in model.parameters())
