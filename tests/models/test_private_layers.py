"""Layers that mix examples: which are replaced, what of them is kept, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.models.freezing import freeze
from mltrain.models.private_layers import adapt_for_privacy, adapt_to_state
from mltrain.models.registry import IMAGE_MODELS, build_image_model


def build(name: str, size: int = 64, **options: Any) -> nn.Module:
    return build_image_model(name, num_classes=4, channels=3, image_size=size, options=options)


def with_batch_norms() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 48, 3), nn.BatchNorm2d(48, eps=1e-3), nn.Flatten(), nn.Linear(48, 6), nn.BatchNorm1d(6),
        nn.BatchNorm1d(6, affine=False), nn.Linear(6, 2),
    )  # fmt: skip
    for norm in (model[1], model[4]):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    model[1].bias.requires_grad_(False)
    return model


def test_a_batch_norm_keeps_its_parameters() -> None:
    model = with_batch_norms()
    before = dict(model.named_parameters())
    told = adapt_for_privacy(model)
    assert told == [
        "1 BatchNorm2d layer became GroupNorm, with its scale and shift; running statistics are dropped.",
        "2 BatchNorm1d layers became GroupNorm, with their scales and shifts; running statistics are dropped.",
    ]
    assert [type(layer).__name__ for layer in model].count("GroupNorm") == 3
    assert (model[1].num_groups, model[1].eps) == (16, 1e-3)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert not model[1].bias.requires_grad
    assert "affine=True" in repr(model[1])


def test_examples_do_not_meet_any_more() -> None:
    model = with_batch_norms().train()
    inputs = torch.randn(4, 3, 3, 3)
    adapt_for_privacy(model)
    alone = torch.cat([model(inputs[index : index + 1]) for index in range(4)])
    torch.testing.assert_close(model(inputs), alone)
    # A group of one value each would have made all outputs the same.
    assert alone.std(0).min() > 1e-3


@pytest.mark.parametrize("name", IMAGE_MODELS.names())
def test_a_model_is_built_again_from_its_state(name: str) -> None:
    """Also on the device meta, where nothing is computed: the same layers, the same names and shapes."""
    with torch.device("meta"):
        model, again = build(name), build(name)
        adapt_for_privacy(model)
        state = model.state_dict()
        adapt_to_state(again, state)
    assert [type(layer) for layer in again.modules()] == [type(layer) for layer in model.modules()]
    assert {key: value.shape for key, value in again.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert not any("BatchNorm" in type(layer).__name__ for layer in model.modules())
    assert adapt_for_privacy(model) == []


def test_the_weights_of_a_rebuilt_model_give_the_same_outputs() -> None:
    options = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}
    model, again = build("resnet18", **options), build("resnet18", **options)
    adapt_for_privacy(model)
    adapt_for_privacy(again)
    again.load_state_dict(model.state_dict())
    pixels = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(pixels).logits, again.eval()(pixels).logits)


def test_frozen_batch_norms_keep_their_statistics() -> None:
    model = build("resnet18", depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8)
    freeze(model, "backbone")
    model.train()
    count = sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert adapt_for_privacy(model) == [f"{count} frozen batch norm layers kept their stored statistics."]
    alone = nn.Sequential(nn.BatchNorm1d(3).eval().requires_grad_(False))
    assert adapt_for_privacy(alone) == ["1 frozen batch norm layer kept its stored statistics."]
    again = build("resnet18", depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8)
    adapt_to_state(again, model.state_dict())
    again.load_state_dict(model.state_dict())


class OwnNorm(nn.BatchNorm2d):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).relu()


class Owner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift, self.dropout = nn.Parameter(torch.zeros(3)), nn.Dropout(0.1)


REFUSED = {
    "mixes the examples": OwnNorm(3),
    "keeps statistics": nn.InstanceNorm2d(3, track_running_stats=True),
    "is of a kind": nn.EmbeddingBag(5, 3),
    "computes its weights": nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    "by what is in a batch": nn.Embedding(5, 3, scale_grad_by_freq=True),
    "has dropout around weights of its own": Owner(),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_private_is_refused_by_name(reason: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(REFUSED[reason]))
    with pytest.raises(ConfigError, match=reason) as refusal:
        adapt_for_privacy(model)
    assert f"'1.0' ({type(REFUSED[reason]).__name__}) " in str(refusal.value)
    assert refusal.value.where == "model.architecture"


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.LSTM(3, 3), "'l' (LSTM)"),
        (nn.GRU(3, 3), "'l' (GRU)"),
        (nn.RNN(3, 3), "'l' (RNN)"),
        (nn.MultiheadAttention(4, 2), "'l' (MultiheadAttention)"),
        (nn.TransformerEncoderLayer(4, 2, 8), "'l.self_attn' (MultiheadAttention)"),
    ],
)
def test_fused_attention_and_recurrence_are_refused_with_what_to_use(layer: nn.Module, name: str) -> None:
    """They keep examples apart: the reason is another one."""
    with pytest.raises(ConfigError) as refusal:
        adapt_for_privacy(nn.ModuleDict({"l": layer}))
    assert str(refusal.value) == (
        f"model.architecture: {name} is of a kind for which the dp trainer cannot compute the gradient of each "
        "example. Use attention or recurrence written with nn.Linear layers (as transformers' models are), or freeze "
        "this layer."
    )
    assert adapt_for_privacy(nn.ModuleDict({"l": layer.requires_grad_(False)})) == []


def test_attention_of_which_only_the_output_layer_is_trained_is_refused() -> None:
    attention = nn.MultiheadAttention(4, 2).requires_grad_(False)
    attention.out_proj.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"the model \(MultiheadAttention\)"):
        adapt_for_privacy(attention)


def test_layers_that_keep_examples_apart_stay() -> None:
    model = nn.Sequential(nn.InstanceNorm2d(3, affine=True), nn.LocalResponseNorm(2), nn.ReLU(inplace=True))
    assert adapt_for_privacy(model) == []
