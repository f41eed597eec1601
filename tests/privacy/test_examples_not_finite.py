"""Examples whose gradients are not finite: they contribute nothing, and change nothing of what the others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from per_example import clipped_sum_by_hand, cross_entropies, relative_error
from torch import Tensor, nn

from mltrain.models.private_layers import adapt_for_privacy
from mltrain.models.registry import build_image_model
from mltrain.privacy.clipping import ClippedGradients

MODES = ["hooks", "ghost"]
BOUND, COUNT, BAD = 0.7, 6, 3


class Recurring(nn.Module):
    """A scale without a rule of its own within a sequence of words."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.words, self.inner, self.norm = nn.Embedding(40, 6), nn.Linear(6, 8), nn.LayerNorm(8)
        self.slope, self.dropout, self.head = nn.PReLU(8), nn.Dropout(dropout), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        # The numbers are floating point here, so that one may be none.
        features = self.words(inputs.nan_to_num(0, 0, 0).clamp(0, 39).long()) + inputs.unsqueeze(-1) * 0.01
        slopes = self.slope(self.norm(self.inner(features)).transpose(1, 2)).mean(2)
        return self.head(self.dropout(slopes))


def vectors(dropout: float) -> nn.Module:
    return nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Dropout(dropout), nn.Linear(9, 3))


def sequences(dropout: float) -> nn.Module:
    # Wide and short: never smaller as a whole. Then narrow and long: kept as a whole.
    return nn.Sequential(
        nn.Unflatten(1, (3, 4)), nn.Linear(4, 60), nn.GELU(), nn.Dropout(dropout), nn.Linear(60, 50), nn.Flatten(1),
        nn.Unflatten(1, (75, 2)), nn.Linear(2, 2), nn.Flatten(1), nn.Linear(150, 3),
    )  # fmt: skip


def planes(dropout: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(inplace=True), nn.Dropout(dropout),
        nn.Conv2d(8, 16, 3, stride=2, groups=2), nn.Conv2d(16, 24, 3), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip


def transformer(dropout: float) -> nn.Module:
    options = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 1}
    options |= {"patch_size": 4, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    model = build_image_model("vit_tiny", num_classes=3, channels=3, image_size=8, options=options)
    adapt_for_privacy(model)
    return model.train()


MODELS: dict[str, tuple[Callable[[float], nn.Module], tuple[int, ...]]] = {
    "vectors": (vectors, (7,)),
    "sequences": (sequences, (12,)),
    "words": (Recurring, (5,)),
    "planes": (planes, (3, 7, 7)),
    "transformer": (transformer, (3, 8, 8)),
}
FAULTS = ["nan", "inf", "large", "loss"]


def prepared(name: str, fault: str, dropout: float) -> tuple[nn.Module, Tensor, Tensor, Tensor, Tensor]:
    """Return a model, sound inputs, inputs with the fault, targets and factors of the losses."""
    torch.manual_seed(5)
    build, shape = MODELS[name]
    model, inputs, targets = build(dropout), torch.randn(COUNT, *shape), torch.tensor([0, 0, 1, 2, 0, 0])
    faulty, factors = inputs.clone(), torch.ones(COUNT)
    if fault == "loss":
        factors[BAD] = float("nan")
    else:
        faulty[BAD].flatten()[1:3] = {"nan": float("nan"), "inf": float("inf"), "large": 1e30}[fault]
    return model, inputs, faulty, targets, factors


def clipped_sum(model: nn.Module, mode: Any, losses: Callable[[], Tensor]) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(9)
    clipped = ClippedGradients(model, BOUND, mode)
    try:
        norms = clipped.add(losses())
        return [total.clone() for total in clipped.sums], norms
    finally:
        clipped.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", MODELS)
def test_the_sum_is_that_of_the_others(name: str, fault: str, mode: Any) -> None:
    model, _, inputs, targets, factors = prepared(name, fault, dropout=0.0)
    found, norms = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets) * factors)
    sound = torch.isfinite(norms)
    # A large value may well have a finite gradient, and count as any other.
    assert sound.sum() == COUNT - 1 or (fault == "large" and sound.all())
    assert sound[torch.arange(COUNT) != BAD].all()
    expected, _ = clipped_sum_by_hand(model, inputs[sound], targets[sound], BOUND)
    assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", MODELS)
def test_neighbours_with_dropout_differ_by_the_bound_at_most(name: str, fault: str, mode: Any) -> None:
    model, sound, inputs, targets, factors = prepared(name, fault, dropout=0.5)
    whole, _ = clipped_sum(model, mode, lambda: cross_entropies(model, sound, targets))
    found, _ = clipped_sum(model, mode, lambda: cross_entropies(model, inputs, targets) * factors)
    difference = torch.cat([(a.double() - b.double()).flatten() for a, b in zip(whole, found, strict=True)])
    # A large value contributes within its own bound.
    assert difference.norm() <= BOUND * (1 + (fault == "large")) * (1 + 1e-6)
