"""LoRA: which weights are trained, what the layers compute, and that every part of the house knows such a model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from per_example import clipped_sum_by_hand, cross_entropies, relative_error
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from mltrain.config.training import CompileSection, OptimizerSection
from mltrain.core.errors import ConfigError
from mltrain.models.gradient_checkpointing import gradient_checkpointing
from mltrain.models.lora import LoraSection, add_lora, choose_trained, has_lora, merge_lora, merged_tensors
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.models.registry import build_image_model, logits_of
from mltrain.models.structure import head_names
from mltrain.privacy.clipping import ClippedGradients
from mltrain.trainers.compilation import Compilation
from mltrain.trainers.parameter_groups import parameter_groups

SMALL: dict[str, dict[str, Any]] = {
    "vit_tiny": {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 40, "num_hidden_layers": 2,
                 "patch_size": 8},
    "resnet18": {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8},
    "mlp": {},
    "simple_cnn": {"width": 8},
}  # fmt: skip
EVERYWHERE = {"resnet18", "simple_cnn"}  # convolutions alone stand before their heads


def build(name: str = "vit_tiny", **options: Any) -> nn.Module:
    torch.manual_seed(1)
    options = {**SMALL[name], **options}
    return build_image_model(name, num_classes=3, channels=3, image_size=16, options=options)


def section(name: str = "vit_tiny", **values: Any) -> LoraSection:
    return LoraSection(**{"rank": 3, "alpha": 5.0, "targets": ["*"] if name in EVERYWHERE else "auto", **values})


def adapted(name: str = "vit_tiny", **values: Any) -> nn.Module:
    """Return a model whose adapters have an effect: they begin without."""
    model = build(name)
    add_lora(model, section(name, **values))
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            nn.init.normal_(parameter, std=0.3)
    return model


def bert() -> nn.Module:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}
    return BertForSequenceClassification(BertConfig(**shape, vocab_size=40, max_position_embeddings=12))


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradients(model: nn.Module, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    logits_of(model(pixels)).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_unchanged_at_first_and_adapters_and_the_head_are_trained(name: str) -> None:
    model, pixels = build(name).eval(), torch.randn(2, 3, 16, 16)
    before, kind, heads = logits_of(model(pixels)), type(model), head_names(model)
    add_lora(model, section(name))
    assert type(model) is kind
    assert has_lora(model)
    assert torch.equal(logits_of(model.eval()(pixels)), before)
    assert head_names(model) == heads
    adapters = {part for part in trained(model) if ".lora_" in part}
    assert adapters
    assert all(part.startswith(heads) for part in trained(model) - adapters)
    assert len(trained(model)) > len(adapters)


def test_auto_adapts_every_linear_layer_before_the_head() -> None:
    model = build()
    linear = {name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    add_lora(model, section())
    assert {name for name, layer in model.named_modules() if hasattr(layer, "lora_A")} == linear - {"classifier"}


@pytest.mark.parametrize(
    ("targets", "ends"),
    [
        (["q_proj", "v_proj"], {"attention.q_proj", "attention.v_proj"}),
        (["*.mlp.*"], {"mlp.fc1", "mlp.fc2"}),
        (["*layers.1.*fc1"], {"mlp.fc1"}),
    ],
)
def test_patterns_name_layers_wholly_or_by_their_last_part(targets: list[str], ends: set[str]) -> None:
    model = build()
    add_lora(model, section(targets=targets))
    found = [name for name, layer in model.named_modules() if hasattr(layer, "lora_A")]
    assert {".".join(name.split(".")[-2:]) for name in found} == ends
    assert len(found) == (1 if "layers.1" in targets[0] else 2 * len(ends))


def test_a_name_is_not_taken_for_the_end_of_another() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    add_lora(model, LoraSection(targets=["1.1"]))
    assert [name for name, layer in model.named_modules() if hasattr(layer, "lora_A")] == ["1.1"]


def test_further_parameters_are_trained_where_they_are_named() -> None:
    model = bert()
    add_lora(model, section(targets=["query"], train=["*LayerNorm*", "*pooler*"]))
    more = {name for name in trained(model) if ".lora_" not in name}
    norms = [f"bert.encoder.layer.{n}.{part}.output.LayerNorm" for n in (0, 1) for part in ("attention",)]
    assert {f"{norm}.weight" for norm in norms} < more
    assert {"classifier.weight", "bert.pooler.dense.bias", "bert.embeddings.LayerNorm.bias"} < more
    assert all(any(part in name for part in ("LayerNorm", "pooler", "classifier")) for name in more)
    model.train()
    assert model.get_submodule("bert.encoder.layer.1.output.LayerNorm").training
    assert not model.get_submodule("bert.embeddings.word_embeddings").training


@pytest.mark.parametrize("name", SMALL)
def test_merged_weights_compute_the_same(name: str) -> None:
    """An independent way to the same outputs: a plain model, whose weights are W + (alpha / rank) B A."""
    model, pixels = adapted(name).double().eval(), torch.randn(4, 3, 16, 16, dtype=torch.float64)
    plain = build(name).double().eval()
    before = logits_of(plain(pixels))
    plain.load_state_dict(merged_tensors(model.state_dict(), section(name)))
    expected = logits_of(model(pixels))
    assert float((expected - before).abs().max()) > 1e-3
    torch.testing.assert_close(logits_of(plain(pixels)), expected, rtol=1e-9, atol=1e-12)
    merged = merge_lora(model)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(logits_of(merged(pixels)), expected, rtol=1e-9, atol=1e-12)
    assert not has_lora(merged)


def test_initial_adapters_follow_from_torchs_generator() -> None:
    one, same, other = build(), build(), build()
    for model, seed in ((one, 5), (same, 5), (other, 6)):
        torch.manual_seed(seed)
        add_lora(model, section())
    state, again, different = one.state_dict(), same.state_dict(), other.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert {name for name in state if not torch.equal(state[name], different[name])} == {
        name for name in state if "lora_A" in name
    }


def test_on_meta_nothing_is_drawn_and_the_names_are_those_of_a_real_model() -> None:
    with torch.device("meta"):
        model = build()
        add_lora(model, section())
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    real = adapted()
    assert {name: t.shape for name, t in real.state_dict().items()} == {
        n: t.shape for n, t in model.state_dict().items()
    }
    assert trained(real) == trained(model)


def test_a_copy_is_a_model_of_its_own() -> None:
    model = adapted().train()
    twin = copy.deepcopy(model)
    pixels = torch.randn(2, 3, 16, 16)
    expected = logits_of(model(pixels)).detach()
    assert torch.equal(logits_of(twin.train()(pixels)), expected)
    assert trained(twin) == trained(model)
    optimizer = torch.optim.SGD([p for p in twin.parameters() if p.requires_grad], lr=1.0)
    logits_of(twin(pixels)).sum().backward()
    optimizer.step()
    assert torch.equal(logits_of(model(pixels)), expected)
    assert not torch.allclose(logits_of(twin(pixels)), expected)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
@pytest.mark.parametrize("name", SMALL)
def test_clipped_sums_are_those_of_one_example_at_a_time(name: str, mode: Any) -> None:
    model = adapted(name, train=["*norm*"] if name == "vit_tiny" else []).double().train()
    adapt_for_privacy(model)
    pixels, labels = torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.tensor([0, 0, 1, 0])
    bound = float(clipped_sum_by_hand(model, pixels, labels, 1.0)[1].median())
    expected, norms = clipped_sum_by_hand(model, pixels, labels, bound)
    assert float(norms.min()) < bound
    clipped = ClippedGradients(model, bound, mode)
    clipped.add(cross_entropies(model, pixels, labels))
    assert relative_error(clipped.sums, expected) < 1e-6
    assert len(clipped.sums) == len(trained(model))


def test_gradient_checkpointing_gives_the_same_bits() -> None:
    """The inputs of the first block have no gradient, since the embeddings are frozen."""
    model, pixels = adapted(dropout=0.2).train(), torch.randn(2, 3, 16, 16)
    torch.manual_seed(3)
    plain = gradients(model, pixels)
    assert set(plain) == trained(model)
    with gradient_checkpointing(model, wanted=True):
        torch.manual_seed(3)
        again = gradients(model, pixels)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_compiled_it_computes_the_same() -> None:
    model, pixels = adapted().train(), torch.randn(2, 3, 16, 16)
    plain = gradients(model, pixels)
    with Compilation(CompileSection(enabled=True, backend="eager")) as compilation:
        compilation.compile(model)
        again = gradients(model, pixels)
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_rates_fall_by_layer_and_the_products_decay() -> None:
    model = adapted()
    groups = parameter_groups(OptimizerSection(lr=1.0, layer_decay=0.5), model, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: (group["lr"], group.get("weight_decay")) for group in groups for p in group["params"]}
    assert rates.keys() == trained(model)
    assert rates["classifier.weight"] == (1.0, None)
    assert rates["classifier.bias"] == (1.0, 0.0)
    assert rates["vit.layers.1.mlp.fc1.lora_A.default.weight"] == (0.5, None)
    assert rates["vit.layers.0.mlp.fc1.lora_B.default.weight"] == (0.25, None)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2), nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("model", "values", "told"),
    [
        (build, {"targets": ["q_porj"]}, r"model\.lora\.targets: no module matches 'q_porj'\. Did you mean 'q_proj'\?"),
        (build, {"targets": ["zzz"]}, r"no module matches 'zzz'\. Names are like 'vit\.layers\.1\.mlp\.fc2'\."),
        (build, {"targets": ["classifier"]}, r"targets: 'classifier' matches the head alone, which is trained whole\."),
        (
            build,
            {"targets": ["layernorm"]},
            r"matches vit\.layernorm \(LayerNorm\), which cannot be adapted\.",
        ),
        (build, {"train": ["*norm_befor.*"]}, r"model\.lora\.train: no parameter matches '\*norm_befor\.\*'"),
        (lambda: build("resnet18"), {}, r"ResNetForImageClassification has no linear layer .*targets: \['\*'\]\.$"),
        (lambda: nn.Linear(2, 2), {}, r"model\.lora: Linear has no linear layer before its head\. Leave it out\.$"),
        (Attention, {}, r"model\.lora: Attention has no linear layer before its head\. Leave it out\.$"),
        (Attention, {"targets": ["out_proj"]}, r"attention\.out_proj \(NonDyn.*Linear\), which cannot be adapted"),
        (
            lambda: nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(4, 2)),
            {"targets": ["0"]},
            r"matches 0 \(Conv2d\), which cannot be adapted\.",
        ),
    ],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_what_cannot_be_adapted_is_told_in_one_line(model: Any, values: Any, told: str, device: str) -> None:
    with torch.device(device):
        network = model()
        with pytest.raises(ConfigError, match=told) as caught:
            add_lora(network, LoraSection(**values))
    assert "\n" not in str(caught.value)


def test_freezing_beside_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.freeze: is set beside model\.lora.*model\.lora\.train"):
        choose_trained(build(), frozen="backbone", lora=LoraSection())
