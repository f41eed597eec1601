"""Every image model: shapes, learning, options, and building without memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mltrain.core.errors import ConfigError
from mltrain.models.registry import IMAGE_MODELS, build_image_model, logits_of

NAMES = ["mlp", "resnet18", "simple_cnn", "tiny_net"]


def build(name: str, size: int = 8, channels: int = 3, classes: int = 4, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_image_model(name, num_classes=classes, channels=channels, image_size=size, options=options)


def test_these_models_are_known() -> None:
    assert set(NAMES) <= set(IMAGE_MODELS.names())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 28, 64])
def test_logits_have_a_row_an_image_and_a_column_a_class(name: str, channels: int, size: int) -> None:
    model = build(name, size, channels, classes=5)
    logits = logits_of(model(torch.randn(3, channels, size, size)))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_eight_images_can_be_learned_by_heart(name: str) -> None:
    size, steps = (16, 20) if name == "resnet18" else (28, 60)
    model = build(name, size)
    pixels = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(logits_of(model(pixels)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_default_generator_alone(name: str) -> None:
    one, two = build(name).state_dict(), build(name).state_dict()
    torch.manual_seed(1)
    other = build_image_model(name, num_classes=4, channels=3, image_size=8, options={}).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_can_be_built_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = build(name, size=64)
    real = build(name, size=64).state_dict()
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == {k: v.shape for k, v in real.items()}


@pytest.mark.parametrize("name", ["tiny_net", "mlp"])
def test_without_batch_statistics_an_image_counts_for_itself(name: str) -> None:
    model = build(name, size=28).train()
    assert not any(isinstance(module, _BatchNorm) for module in model.modules())
    assert not list(model.buffers())
    pixels = torch.randn(6, 3, 28, 28)
    torch.testing.assert_close(model(pixels)[:2], model(pixels[:2]), rtol=1e-5, atol=1e-6)


def test_the_stem_of_resnet18_is_that_of_the_paper() -> None:
    count = sum(parameter.numel() for parameter in build("resnet18", size=64, classes=1000).parameters())
    assert count == 11_689_512


def test_options_reach_the_model() -> None:
    assert build("tiny_net", width=8).features[0].out_channels == 8
    assert [m.out_features for m in build("mlp", hidden=[7, 5]) if isinstance(m, nn.Linear)] == [7, 5, 4]
    assert [m.p for m in build("mlp", dropout=0.25) if isinstance(m, nn.Dropout)] == [0.25, 0.25]
    assert build("simple_cnn", dropout=0.5).dropout.p == 0.5
    assert build("resnet18", downsample_in_first_stage=True).config.downsample_in_first_stage is True


@pytest.mark.parametrize(
    ("name", "option", "told"),
    [
        ("tiny_net", {"widht": 8}, r"model\.options\.widht: tiny_net has no option 'widht'\. Did you mean width\?"),
        ("mlp", {"hiden": [8]}, r"Did you mean hidden\?"),
        ("simple_cnn", {"zzz": 1}, r"It takes: width, dropout\."),
        ("mlp", {"num_classes": 3}, r"mlp has no option 'num_classes'"),
        ("resnet18", {"downsample_first_stage": True}, r"Did you mean downsample_in_first_stage\?"),
    ],
)
def test_an_unknown_option_is_told_with_the_nearest(name: str, option: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(name, **option)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("tiny_net", {"width": 6}),
        ("tiny_net", {"width": -4}),
        ("tiny_net", {"width": 0}),
        ("simple_cnn", {"width": 0}),
        ("simple_cnn", {"width": 1.5}),
        ("mlp", {"hidden": [-1]}),
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": "wide"}),
        ("mlp", {"dropout": 2}),
        ("resnet18", {"downsample_in_first_stage": "yes"}),
    ],
    ids=str,
)
def test_an_option_of_an_impossible_value_is_told_in_one_line(name: str, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.options: {name} cannot be built \(.+\)\. Correct") as caught:
        build(name, **option)
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"model\.architecture: unknown image model 'resnet81'.*resnet18"):
        build("resnet81")
