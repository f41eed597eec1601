"""Frozen parts: no gradient, no change of running statistics, and copies that behave alike."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from mltrain.core.errors import ConfigError
from mltrain.models.freezing import freeze
from mltrain.models.registry import build_image_model, logits_of
from mltrain.models.structure import head_name, head_names, layer_depths


def build(name: str = "simple_cnn", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    size = 32 if name not in ("simple_cnn", "mlp", "tiny_net") else 8
    return build_image_model(name, num_classes=3, channels=3, image_size=size, options=options)


HEADS = {"mlp": "5", "simple_cnn": "head", "tiny_net": "head", "resnet18": "classifier.1", "vit_tiny": "classifier",
         "mobilenet_v2": "classifier", "efficientnet_b0": "classifier", "convnextv2_atto": "classifier"}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_found_and_alone_is_trained(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
        assert head_name(model) == HEADS[name]
        freeze(model, "backbone")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {f"{HEADS[name]}.weight", f"{HEADS[name]}.bias"}


@pytest.mark.parametrize("copied", [False, True])
def test_a_frozen_backbone_stays_as_it_was(copied: bool) -> None:
    model: Any = build(dropout=0.5)
    freeze(model, "backbone")
    original = model
    if copied:
        model = copy.deepcopy(model)
    model.train()
    assert model.training
    assert model.dropout.training, "a part without parameters that stands outside is trained with"
    assert not any(module.training for module in model.features.modules())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    nn.functional.cross_entropy(model(torch.randn(6, 3, 8, 8)), torch.arange(6) % 3).backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight", "head.bias"}
    if copied:
        assert torch.equal(original.head.weight, before["head.weight"])


def test_patterns_freeze_what_they_name() -> None:
    model: Any = build("resnet18")
    freeze(model, ["resnet.embedder.*", "resnet.encoder.stages.[01].*"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen
    assert all(name.startswith(("resnet.embedder", "resnet.encoder.stages.0", "resnet.encoder.stages.1"))
               for name in frozen)  # fmt: skip
    model.train()
    assert not model.resnet.embedder.embedder.normalization.training
    assert model.resnet.encoder.stages[2].layers[0].layer[0].normalization.training
    logits_of(model(torch.randn(2, 3, 32, 32))).sum().backward()
    assert all((parameter.grad is None) == (name in frozen) for name, parameter in model.named_parameters())


@pytest.mark.parametrize(
    ("wish", "trained"),
    [
        (["*", "!head.*"], {"head.weight", "head.bias"}),
        (["*", "!head.*", "!features.[01].*", "features.0.*"], {"head.", "features.1."}),
        (["features.*", "!*.bias"], {"head.", ".bias"}),
        (["!head.*", "*.weight"], {".bias"}),
    ],
)
def test_the_last_pattern_that_matches_counts(wish: list[str], trained: set[str]) -> None:
    model = build()
    freeze(model, wish)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == any(part in name for part in trained), name


def test_a_head_of_several_layers_is_trained_whole() -> None:
    shape = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
    model = RobertaForSequenceClassification(RobertaConfig(**shape, vocab_size=9, max_position_embeddings=9))
    assert head_names(model) == ("classifier",)
    freeze(model, "backbone")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {
        f"classifier.{part}" for part in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    }


def test_a_model_of_several_heads_names_them() -> None:
    model: Any = nn.ModuleDict({"trunk": nn.Linear(2, 2), "left": nn.Linear(2, 2), "right": nn.Linear(2, 2)})
    model.head_names = ("left", "right")
    freeze(model, "backbone")
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["trunk.weight", "trunk.bias"]


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        (["feature.*"], r"model\.freeze: no parameter matches 'feature\.\*'\. Did you mean 'features\.\*'\?"),
        (["zzz"], r"no parameter matches 'zzz'\. Names are like 'features\.0\.weight' and 'head\.bias'"),
        (["*"], r"model\.freeze: freezes every parameter\. Leave some"),
        (["*", "!heads.*"], r"model\.freeze: no parameter matches 'heads\.\*'\. Did you mean 'head\.\*'\?"),
        (["!head.*"], r"model\.freeze: freezes nothing\. `!` takes names out of those before it: begin with '\*'\."),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused(wish: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        freeze(build(), wish)


def test_depth_counts_blocks_from_the_stem_to_the_head() -> None:
    with torch.device("meta"):
        depths = {name: layer_depths(build(name)) for name in HEADS}
    vit = depths["vit_tiny"]
    assert vit["vit.embeddings.cls_token"] == 0
    assert [vit[f"vit.layers.{number}.mlp.fc1.weight"] for number in (0, 11)] == [1, 12]
    assert vit["vit.layernorm.weight"] == vit["classifier.bias"] == 13
    resnet = depths["resnet18"]
    assert resnet["resnet.embedder.embedder.convolution.weight"] == 0
    assert resnet["resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"] == 1
    assert resnet["resnet.encoder.stages.3.layers.1.layer.1.normalization.bias"] == 8
    assert resnet["classifier.1.weight"] == 9
    assert max(depths["convnextv2_atto"].values()) == 2 + 2 + 6 + 2 + 3 + 1, "12 layers and 3 downsamplings"
    assert (
        max(depths["efficientnet_b0"].values()) == depths["efficientnet_b0"]["efficientnet.encoder.top_bn.bias"] == 17
    )
    assert max(depths["mobilenet_v2"].values()) == 17
    assert depths["mlp"] == {"1.weight": 1, "1.bias": 1, "3.weight": 2, "3.bias": 2, "5.weight": 3, "5.bias": 3}


def test_a_model_without_numbered_modules_counts_its_modules() -> None:
    model = nn.Module()
    model.first, model.second, model.head = nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)
    depths = layer_depths(model)
    assert [depths[f"{name}.bias"] for name in ("first", "second", "head")] == [1, 2, 3]
