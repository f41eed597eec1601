"""The trial of both modes: what it finds, what it leaves behind, and what it says where neither works."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from per_example import cross_entropies
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.privacy import clipping, mode_choice
from mltrain.privacy.completeness import refuse_incomplete
from mltrain.privacy.mode_choice import choose_mode


class Drawing(nn.Module):
    """Draws random numbers and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout = nn.Linear(6, 3), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(self.dropout(inputs))


def test_nothing_is_left_behind() -> None:
    model = Drawing()
    inputs, targets = torch.randn(4, 6), torch.arange(4) % 3
    model.layer.weight.grad = torch.ones(3, 6)
    before, generator, attributes = copy.deepcopy(model.state_dict()), torch.get_rng_state(), set(vars(model.layer))
    mode, text = choose_mode(model, lambda: cross_entropies(model, inputs, targets), 1.0)
    assert mode in ("ghost", "hooks")
    assert text.startswith(f"Gradients of examples: {mode} takes ")
    assert text.count("ms") == 2
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.layer.weight.grad, torch.ones(3, 6))
    assert model.layer.bias.grad is None
    assert not model.layer._forward_hooks
    assert set(vars(model.layer)) == attributes


def test_the_mode_that_works_is_taken() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 6))
    model[3].weight = model[0].weight
    inputs, targets = torch.randn(4, 6), torch.arange(4) % 3
    mode, text = choose_mode(model, lambda: cross_entropies(model, inputs, targets), 1.0)
    assert mode == "hooks"
    assert "ghost cannot do it" in text
    # Its reason, and not what it would advise those who have asked for it.
    assert text.endswith("ghost cannot do it (ghost cannot do with weights that layers '0' and '3' share).")


@pytest.mark.parametrize(("ghost", "hooks", "chosen"), [(3.0, 1.0, "hooks"), (0.02, 0.04, "ghost")])
def test_the_faster_mode_is_taken(ghost: float, hooks: float, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first step of each trial is slow, and does not count.
    durations = iter([0, 50.0, *[0, ghost] * 3, 0, 50.0, *[0, hooks] * 3])
    monkeypatch.setattr(mode_choice.time, "perf_counter", lambda: next(durations))
    model = nn.Linear(6, 3)
    inputs, targets = torch.randn(4, 6), torch.arange(4) % 3
    assert choose_mode(model, lambda: cross_entropies(model, inputs, targets), 1.0)[0] == chosen


def test_memory_that_one_mode_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")

    monkeypatch.setattr(clipping, "weighted_sum", without_memory)
    model = nn.Linear(64, 64)
    inputs, targets = torch.randn(4, 64), torch.arange(4)
    mode, text = choose_mode(model, lambda: cross_entropies(model, inputs, targets), 1.0)
    assert mode == "ghost"
    assert "hooks cannot do it (CUDA out of memory" in text


class Folded(nn.Module):
    """Treats each position as an example of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.inner(inputs.flatten(0, 1)).view(len(inputs), -1, 5).mean(1))


def test_a_layer_that_neither_can_do_is_named() -> None:
    model, targets = Folded(), torch.arange(4) % 3
    with pytest.raises(ConfigError, match=r"layer 'inner' \(Linear\) gives 8 rows for 4 examples"):
        choose_mode(model, lambda: cross_entropies(model, torch.randn(4, 2, 3), targets), 1.0)
    assert not model.inner._forward_hooks


class Elsewhere(nn.Module):
    """Uses the weight of a layer without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(7, 5), nn.Linear(5, 5)

    def forward(self, words: Tensor) -> Tensor:
        return self.inner(self.words(words).mean(1)) @ self.words.weight.T


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_a_gradient_that_escapes_is_found(mode: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = Elsewhere(), torch.randint(0, 7, (4, 3)), torch.arange(4)
    with pytest.raises(ConfigError, match=r"gradients of words\.weight do not add up"):
        refuse_incomplete(model, lambda: cross_entropies(model, inputs, targets), mode)
    sound = Drawing()
    refuse_incomplete(sound, lambda: cross_entropies(sound, torch.randn(4, 6), targets % 3), mode)
    assert float(sound.calls) == 0


class SequenceFirst(nn.Module):
    """Gives a layer positions first, and examples after them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.inner(inputs.transpose(0, 1)).relu().transpose(0, 1).sum(1))


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_positions_that_are_as_many_as_the_examples_are_found_with_one_example_fewer(mode: Any) -> None:
    model, inputs, targets = SequenceFirst(), torch.randn(5, 5, 4), torch.arange(5) % 3
    # The gradients of positions add up to the same sum as those of examples.
    refuse_incomplete(model, lambda: cross_entropies(model, inputs, targets), mode)
    with pytest.raises(ConfigError, match=r"layer 'inner' \(Linear\) gives 5 rows for 4 examples"):
        refuse_incomplete(model, lambda: cross_entropies(model, inputs[:4], targets[:4]), mode)
