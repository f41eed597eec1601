"""Buffers that a forward pass computes from the examples are refused: they would be saved without noise."""

from __future__ import annotations

import pytest
import torch
from test_coupling import check, cross_entropy, network
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.privacy.probing import buffers_put_back, changed_buffers


class Counting(nn.Module):
    """Counts its steps, in whole numbers and in others, and keeps a mean of noise: none of it from the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network(nn.Dropout(0.5))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("decay", torch.tensor(1.0))
        self.register_buffer("noise", torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        self.steps += 1
        self.decay = self.decay * 0.9
        self.noise.lerp_(torch.rand(3), 0.1)
        logits: Tensor = self.layers(inputs)
        return logits


class Centering(nn.Module):
    """Keeps a mean of its inputs that no output depends on."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.layers, self.way = network(), way
        self.register_buffer("center", None if way == "none before" else torch.zeros(5))
        self.register_buffer("positives", torch.tensor(10**9))

    def forward(self, inputs: Tensor) -> Tensor:
        mean = inputs.detach().mean(dim=0)
        if self.training and self.way == "in place":
            self.center.mul_(0.9).add_(0.1 * mean)
        elif self.training and self.way == "whole number":
            self.positives += (inputs > 0).sum()
        elif self.training and self.way == "one value":
            self.center[2] += 1e-3 * mean[2]
        elif self.training:
            self.center = mean
        logits: Tensor = self.layers(inputs)
        return logits


def test_buffers_that_count_steps_pass() -> None:
    model = Counting()
    check(cross_entropy, model)
    assert int(model.steps) == 0
    assert float(model.decay) == 1.0


@pytest.mark.parametrize("way", ["in place", "another tensor", "none before", "one value", "whole number"])
def test_a_buffer_that_is_computed_from_the_examples_is_refused_by_name(way: str) -> None:
    model = Centering(way)
    name = "positives" if way == "whole number" else "center"
    with pytest.raises(ConfigError, match=rf"^model: the buffer '{name}' is computed from the examples, without noise"):
        check(cross_entropy, model)
    assert int(model.positives) == 10**9
    assert model.center is None if way == "none before" else torch.equal(model.center, torch.zeros(5))


def test_a_buffer_that_changes_in_training_alone_passes_where_its_module_does_not_train() -> None:
    class Frozen(Centering):
        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            self.training = False
            return self

    check(cross_entropy, Frozen("in place"))


def test_buffers_that_a_forward_pass_adds_are_taken_away() -> None:
    model = network()
    with buffers_put_back(model):
        model.register_buffer("cache", torch.ones(2))
    assert dict(model.named_buffers()) == {}


@pytest.mark.parametrize(
    ("before", "after", "differ"),
    [
        (torch.tensor([1.0, 1000.0]), torch.tensor([1.0 + 2e-6, 1000.0]), True),
        (torch.tensor([1.0, 1000.0]), torch.tensor([1.0 + 2e-7, 1000.0]), False),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), False),
        (torch.tensor([10**9]), torch.tensor([10**9 + 1]), True),
        (torch.tensor([True]), torch.tensor([True]), False),
        (torch.zeros(2), torch.zeros(3), True),
    ],
)
def test_what_counts_as_changed(before: Tensor, after: Tensor, differ: bool) -> None:
    assert changed_buffers({"a": before}, {"a": after}) == (["a"] if differ else [])
    assert changed_buffers({"a": before}, {"a": before, "b": after}) == ["b"]
    assert changed_buffers({"a": before, "b": after}, {"a": before}) == ["b"]
