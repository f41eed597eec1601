"""Whole models in each mode: the sum of clipped gradients against one example at a time, some of them not finite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from per_example import clipped_sum_by_hand, cross_entropies, relative_error
from torch import Tensor, nn

from mltrain.models.freezing import freeze
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.models.registry import IMAGE_MODELS, build_image_model
from mltrain.privacy.clipping import ClippedGradients

MODES = ["hooks", "ghost"]
_VIT = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40, "num_hidden_layers": 2, "patch_size": 8}
_CONVNEXT = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24]}
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {},
    "tiny_net": {},
    "simple_cnn": {"width": 8},
    "vit_tiny": _VIT,
    "convnextv2_atto": _CONVNEXT,
    "resnet18": {"depths": [1, 2], "hidden_sizes": [8, 16], "embedding_size": 8},
    "resnet50": {"depths": [1, 2], "hidden_sizes": [16, 32], "embedding_size": 8},
    "mobilenet_v2": {"depth_multiplier": 0.25, "min_depth": 8},
    "efficientnet_b0": {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
}
FULL = [name for name in IMAGE_MODELS.names() if name not in ("mlp", "tiny_net", "simple_cnn")]


def built(name: str, size: int, **options: Any) -> nn.Module:
    torch.manual_seed(1)
    return build_image_model(name, num_classes=4, channels=3, image_size=size, options=options)


def without_dropout(model: nn.Module) -> nn.Module:
    """Take away what is drawn at random, which differs between a batch and its examples."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def clipped_sum(model: nn.Module, mode: Any, pixels: Tensor, labels: Tensor, bound: float) -> list[Tensor]:
    clipped = ClippedGradients(model, bound, mode)
    clipped.add(cross_entropies(model, pixels, labels))
    sums = [total.clone() for total in clipped.sums]
    clipped.close()
    return sums


def assert_exact(model: nn.Module, mode: Any, size: int, count: int) -> None:
    """Compare with one example at a time; where float32 is worth less than 1e-6, both with float64."""
    # Of one class mostly: gradients that cancel would leave a sum of rounding errors.
    pixels, labels = torch.randn(count, 3, size, size), torch.tensor([0, 0, 1, 0])[:count]
    bound = float(clipped_sum_by_hand(model, pixels, labels, 1.0)[1].median())
    found = clipped_sum(model, mode, pixels, labels, bound)
    by_hand, norms = clipped_sum_by_hand(model, pixels, labels, bound)
    assert float(norms.min()) < float(norms.max()), "some are clipped, and some are not"
    if relative_error(found, by_hand) >= 1e-6:
        exact, _ = clipped_sum_by_hand(copy.deepcopy(model).double(), pixels.double(), labels, bound)
        ours, theirs = relative_error(found, exact), relative_error(by_hand, exact)
        print(f"{type(model).__name__} {mode}: {ours:.1e} from float64, where by hand it is {theirs:.1e}")
        assert theirs > 5e-7, "float32 was precise enough"
        assert ours < 2 * theirs


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_each_architecture(name: str, mode: Any) -> None:
    model = without_dropout(built(name, 32, **SMALL[name]))
    adapt_for_privacy(model)
    assert_exact(model, mode, 32, 4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["vit_tiny", "resnet18"])
def test_head_alone(name: str, mode: Any) -> None:
    model = without_dropout(built(name, 32, **SMALL[name]))
    freeze(model, "backbone")
    adapt_for_privacy(model.train())
    assert_exact(model, mode, 32, 4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FULL)
def test_each_listed_model_in_full_size(name: str, mode: Any) -> None:
    model = without_dropout(built(name, 64))
    adapt_for_privacy(model)
    assert_exact(model, mode, 64, 3)


# Examples whose gradients are not finite: they contribute nothing, and change nothing of what the others do.
BOUND, COUNT, BAD = 0.7, 6, 3


class Words(nn.Module):
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
    model: Any = built("vit_tiny", 16, **_VIT, hidden_dropout_prob=dropout, attention_probs_dropout_prob=0.0)
    model.vit.embeddings.dropout.p = 0.0  # Around weights of its own, it would be refused.
    adapt_for_privacy(model)
    return model.train()


SMALLEST: dict[str, tuple[Callable[[float], nn.Module], tuple[int, ...]]] = {
    "vectors": (vectors, (7,)),
    "sequences": (sequences, (12,)),
    "words": (Words, (5,)),
    "planes": (planes, (3, 7, 7)),
    "transformer": (transformer, (3, 16, 16)),
}
FAULTS = ["nan", "inf", "large", "loss"]


def prepared(name: str, fault: str, dropout: float) -> tuple[nn.Module, Tensor, Tensor, Tensor, Tensor]:
    """Return a model, sound inputs, inputs with the fault, targets and factors of the losses."""
    torch.manual_seed(5)
    build, shape = SMALLEST[name]
    model, inputs, targets = build(dropout), torch.randn(COUNT, *shape), torch.tensor([0, 0, 1, 2, 0, 0])
    faulty, factors = inputs.clone(), torch.ones(COUNT)
    if fault == "loss":
        factors[BAD] = float("nan")
    else:
        faulty[BAD].flatten()[1:3] = {"nan": float("nan"), "inf": float("inf"), "large": 1e30}[fault]
    return model, inputs, faulty, targets, factors


def seeded_sum(model: nn.Module, mode: Any, losses: Callable[[], Tensor]) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(9)
    clipped = ClippedGradients(model, BOUND, mode)
    try:
        norms = clipped.add(losses())
        return [total.clone() for total in clipped.sums], norms
    finally:
        clipped.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SMALLEST)
def test_of_an_example_that_is_not_finite_nothing_is_added(name: str, fault: str, mode: Any) -> None:
    model, _, inputs, targets, factors = prepared(name, fault, dropout=0.0)
    found, norms = seeded_sum(model, mode, lambda: cross_entropies(model, inputs, targets) * factors)
    sound = torch.isfinite(norms)
    # A large value may well have a finite gradient, and count as any other.
    assert sound.sum() == COUNT - 1 or (fault == "large" and sound.all())
    assert sound[torch.arange(COUNT) != BAD].all()
    expected, _ = clipped_sum_by_hand(model, inputs[sound], targets[sound], BOUND)
    assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SMALLEST)
def test_neighbours_with_dropout_differ_by_the_bound_at_most(name: str, fault: str, mode: Any) -> None:
    model, sound, inputs, targets, factors = prepared(name, fault, dropout=0.5)
    whole, _ = seeded_sum(model, mode, lambda: cross_entropies(model, sound, targets))
    found, _ = seeded_sum(model, mode, lambda: cross_entropies(model, inputs, targets) * factors)
    difference = torch.cat([(a.double() - b.double()).flatten() for a, b in zip(whole, found, strict=True)])
    # A large value contributes within its own bound.
    assert difference.norm() <= BOUND * (1 + (fault == "large")) * (1 + 1e-6)
