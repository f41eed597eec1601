"""The sum of clipped gradients, against one example at a time."""

from __future__ import annotations

import copy
import gc
import io
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
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

    def forward(self, words: Tensor, relu: Callable[[Tensor], Tensor] = F.relu_) -> Tensor:
        along = self.scale(self.along(self.words(words).transpose(1, 2)).transpose(1, 2))
        plane = self.plane(along.unsqueeze(1))
        plane = relu(self.groups(plane)) + self.point(plane)
        features = relu(self.inner(self.norm(plane.flatten(2).transpose(1, 2)))).mean(1)
        self.unused(features)
        return self.head(features)

    def slow_forward(self, words: Tensor) -> Tensor:
        return Everything.forward(self, words, F.relu)


def everything(batch: int = 6) -> tuple[Everything, Tensor, Tensor]:
    torch.manual_seed(3)
    return Everything(), torch.randint(0, 11, (batch, 9)), torch.randint(0, 3, (batch,))


def clipped_sum(model: nn.Module, mode: Any, losses: Callable[[], Tensor], bound: float = BOUND) -> tuple[Any, Tensor]:
    clipped = ClippedGradients(model, bound, mode)
    norms = clipped.add(losses())
    sums = [total.clone() for total in clipped.sums]
    clipped.close()
    return sums, norms


def assert_as_by_hand(model: nn.Module, mode: Any, inputs: Tensor, targets: Tensor, bound: float = BOUND) -> Tensor:
    found, norms = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets), bound)
    expected, expected_norms = clipped_sum_by_hand(model, inputs, targets, bound)
    assert relative_error(found, expected) < 1e-6
    assert relative_error([norms], [expected_norms]) < 1e-6
    return norms


@pytest.mark.parametrize("mode", MODES)
def test_each_kind_of_layer(mode: Any) -> None:
    model, inputs, targets = everything()
    norms = assert_as_by_hand(model, mode, inputs, targets)
    assert norms.min() < BOUND < norms.max()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mode", MODES)
def test_microbatches_add_up_until_cleared(mode: Any) -> None:
    model, inputs, targets = everything()
    whole, norms = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets))
    clipped = ClippedGradients(model, BOUND, mode)
    assert not any(total.any() for total in clipped.sums)
    parts = [clipped.add(cross_entropies(model, inputs[cut], targets[cut])) for cut in (slice(0, 1), slice(1, 6))]
    assert relative_error(clipped.sums, whole) < 1e-6
    assert relative_error([torch.cat(parts)], [norms]) < 1e-6
    clipped.clear()
    assert not any(total.any() for total in clipped.sums)
    clipped.close()


@pytest.mark.parametrize("mode", MODES)
def test_frozen_parameters_count_for_nothing(mode: Any) -> None:
    model, inputs, targets = everything()
    for parameter in (*model.words.parameters(), model.plane.weight, model.head.bias, model.norm.weight):
        parameter.requires_grad_(False)
    assert_as_by_hand(model, mode, inputs, targets, bound=0.5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite_adds_nothing(mode: Any, factor: float) -> None:
    model, inputs, targets = everything()
    scale = torch.ones(6)
    scale[2] = factor
    found, norms = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets) * scale)
    sound = torch.tensor([True, True, False, True, True, True])
    assert torch.equal(torch.isfinite(norms), sound)
    expected, expected_norms = clipped_sum_by_hand(model, inputs[sound], targets[sound], BOUND)
    assert relative_error(found, expected) < 1e-6
    assert relative_error([norms[sound]], [expected_norms]) < 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_examples_none_of_which_is_finite_add_nothing(mode: Any) -> None:
    model, inputs, targets = everything()
    found, norms = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets) * float("nan"))
    assert not torch.isfinite(norms).any()
    assert not any(total.any() for total in found)


class Tied(nn.Module):
    """One linear layer used twice, and one whose weight is that of an embedding."""

    def __init__(self, *, share: str) -> None:
        super().__init__()
        self.words, self.inner, self.head = nn.Embedding(11, 6), nn.Linear(6, 6), nn.Linear(6, 11, bias=False)
        self.times = 2 if share == "layer" else 1
        if share == "weight":
            self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        features = self.words(words)
        for _ in range(self.times):
            features = self.inner(features).tanh()
        return self.head(features.mean(1))


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_that_is_used_twice_works_in_either_mode(mode: Any) -> None:
    torch.manual_seed(0)
    model, inputs, targets = Tied(share="layer"), torch.randint(0, 11, (5, 4)), torch.arange(5)
    assert_as_by_hand(model, mode, inputs, targets, bound=0.8)


def test_shared_weights_work_with_hooks_and_are_refused_by_ghost() -> None:
    torch.manual_seed(0)
    model, inputs, targets = Tied(share="weight"), torch.randint(0, 11, (5, 4)), torch.arange(5)
    assert_as_by_hand(model, "hooks", inputs, targets, bound=0.8)
    with pytest.raises(ConfigError, match="ghost cannot do with") as refusal:
        clipped_sum(model, "ghost", lambda: cross_entropies(model, inputs, targets))
    assert refusal.value.where == "training.dp.grad_sample_mode"
    assert "hooks" in refusal.value.fix


class InterruptedWorkError(RuntimeError):
    pass


def interrupt(*_: Any) -> None:
    raise InterruptedWorkError


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("when", ["forward", "backward"])
def test_clearing_after_an_interruption(mode: Any, when: str) -> None:
    model, inputs, targets = everything()
    expected, _ = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets))
    clipped = ClippedGradients(model, BOUND, mode)
    register = model.norm.register_forward_hook if when == "forward" else model.groups.register_full_backward_hook
    handle = register(interrupt)
    # Operations in place after such a hook are refused by torch itself.
    model.forward = model.slow_forward if when == "backward" else model.forward  # type: ignore[method-assign]
    with pytest.raises(InterruptedWorkError):
        clipped.add(cross_entropies(model, inputs, targets))
    handle.remove()
    model.__dict__.pop("forward", None)
    clipped.clear()
    assert not any(total.any() for total in clipped.sums)
    clipped.add(cross_entropies(model, inputs, targets))
    assert all(torch.equal(a, b) for a, b in zip(clipped.sums, expected, strict=True))
    clipped.close()


@pytest.mark.parametrize("mode", MODES)
def test_copies_and_pickles_are_of_the_model_alone(mode: Any) -> None:
    model, inputs, targets = everything()
    names = list(model.state_dict())
    clipped = ClippedGradients(model, BOUND, mode)
    losses = cross_entropies(model, inputs, targets)
    other = copy.deepcopy(model)
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=False)
    for copied in (other, loaded):
        assert list(copied.state_dict()) == names
        cross_entropies(copied, inputs, targets).sum().backward()
    # What the copies did is not taken for the model's.
    norms = clipped.add(losses)
    assert relative_error([norms], [clipped_sum_by_hand(model, inputs, targets, BOUND)[1]]) < 1e-6
    clipped.close()
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(vars(parameter) for parameter in model.parameters())


class Positions(nn.Module):
    """Positions looked up once for all examples, as BERT does."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions, self.head = nn.Embedding(11, 6), nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head((self.words(words) + self.positions(torch.arange(words.shape[1])[None])).mean(1))


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_that_sees_no_batch_is_refused(mode: Any) -> None:
    inputs, targets = torch.randint(0, 11, (5, 4)), torch.zeros(5, dtype=torch.long)
    model = Positions()
    clipped = ClippedGradients(model, BOUND, mode)
    with pytest.raises(ConfigError, match=r"layer 'positions' \(Embedding\) gives 1 rows for 5 examples"):
        clipped.add(cross_entropies(model, inputs, targets))
    clipped.clear()
    assert not any(total.any() for total in clipped.sums)


class ChangedInput(nn.Module):
    """Changes what a layer was given, after it was used."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, features: Tensor) -> Tensor:
        features = features.clone()
        inner = self.inner(features)
        features.mul_(2)
        return self.head(inner + features)


@pytest.mark.parametrize("mode", MODES)
def test_an_input_that_was_changed_in_place_is_refused(mode: Any) -> None:
    model, targets = ChangedInput(), torch.arange(5) % 3
    with pytest.raises(ConfigError, match=r"an input of layer 'inner' \(Linear\) was changed in place"):
        clipped_sum(model, mode, lambda: cross_entropies(model, torch.ones(5, 6), targets))


class Mixing(nn.Module):
    """A layer without a rule whose second argument, a mask of positions, runs over no examples."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 24).view(4, 6))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        return mask @ (features @ self.weight)


class Masked(nn.Module):
    def __init__(self, positions: int) -> None:
        super().__init__()
        self.mixing, self.head = Mixing(), nn.Linear(6, 3)
        self.mask = torch.ones(positions, positions).tril()

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.mixing(features, self.mask).relu().sum(1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("positions", [5, 6])
def test_an_argument_that_is_as_long_as_the_batch_by_chance(mode: Any, positions: int) -> None:
    torch.manual_seed(0)
    assert_as_by_hand(Masked(positions), mode, torch.randn(5, positions, 4), torch.arange(5) % 3)


class DrawingOfItsOwn(nn.Module):
    """A layer without a rule that draws a random number at each run, which torch knows nothing of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.generator = nn.Parameter(torch.ones(4, 3)), random.Random(0)

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight * self.generator.random()


@pytest.mark.parametrize("mode", MODES)
def test_a_layer_that_is_another_at_each_run_is_refused(mode: Any) -> None:
    model = DrawingOfItsOwn()
    with pytest.raises(ConfigError, match="cannot be told apart"):
        clipped_sum(model, mode, lambda: cross_entropies(model, torch.ones(5, 4), torch.arange(5) % 3))


@pytest.mark.parametrize("mode", MODES)
def test_tiny_gradients_of_large_inputs_are_clipped(mode: Any) -> None:
    model, inputs = nn.Linear(4, 2, bias=False), torch.full((1, 4), 1e18)
    (total,), norms = clipped_sum(model, mode, lambda: (model(inputs) * 2e-23).sum(1), 1e-6)
    assert norms >= 2e-23 * 1e18 * 8**0.5 * (1 - 1e-6)
    assert 0 < total.norm() <= 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_no_example_exceeds_the_bound_where_layers_are_large(mode: Any) -> None:
    """Millions of elements: a plain float32 norm would be 1e-5 and more too small, and the share as much too large."""
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4096, 700), torch.rand(3, 4096) + 1, torch.arange(3)
    for index in range(3):
        one = slice(index, index + 1)
        sums, _ = clipped_sum(model, mode, lambda cut=one: cross_entropies(model, inputs[cut], targets[cut]), 1.0)
        length = torch.cat([total.double().flatten() for total in sums]).norm()
        assert 1 - 1e-6 < length <= 1 + 1e-7


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), left_out=st.integers(0, 5), bound=st.sampled_from([1e-3, 0.1, 1.0, 5.0]))
def test_neighbouring_batches_differ_by_the_bound_at_most(mode: Any, seed: int, left_out: int, bound: float) -> None:
    torch.manual_seed(seed)
    model, inputs, targets = Everything(), torch.randint(0, 11, (6, 9)), torch.randint(0, 3, (6,))
    others = torch.arange(6) != left_out
    whole, _ = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets), bound)
    without, _ = clipped_sum(model, mode, lambda: cross_entropies(model, inputs[others], targets[others]), bound)
    difference = torch.cat([(a.double() - b.double()).flatten() for a, b in zip(whole, without, strict=True)])
    # The sums themselves are rounded: beside the bound, half a unit in the last place of each of the six shares.
    assert difference.norm() <= bound * (1 + 1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interrupted", [False, True])
def test_nothing_of_a_microbatch_outlives_it(mode: Any, interrupted: bool) -> None:
    """The backward pass stops at the first trained layer, so it does not free what that layer's node has saved."""
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    model[0].requires_grad_(False)
    clipped = ClippedGradients(model, BOUND, mode)
    saved = []

    def keep(tensor: Tensor) -> Tensor:
        kept = tensor.detach()  # a node that holds its own output would never go
        saved.append(weakref.ref(kept))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = F.cross_entropy(model(torch.randn(5, 6)), torch.zeros(5, dtype=torch.long), reduction="none")
    assert any(one() is not None for one in saved)
    if interrupted:
        clipped.clear()
    else:
        clipped.add(losses)
    del losses
    gc.collect()
    assert [one() for one in saved if one() is not None] == []
