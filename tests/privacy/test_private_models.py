"""Each image model that is listed, in each mode: the sum of clipped gradients against one example at a time."""

from __future__ import annotations

import copy
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
