"""uint8 pixels to floats: against the formula in double precision."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from mltrain.core.errors import ConfigError
from mltrain.data.normalization import PRESETS, Normalization

# Rounding of two float32 operations at the largest value there is, 2.64.
TOLERANCE = 4e-7


def all_values(channels: int) -> torch.Tensor:
    """Return every value of a byte in every channel, shape (2, channels, 16, 16)."""
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    return values.repeat(2, channels, 1, 1)


def reference(pixels: torch.Tensor, mean: Any, std: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    column = (-1, 1, 1)
    return (pixels.numpy() / 255.0 - np.reshape(mean, column)) / np.reshape(std, column)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("half", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("none", [0, 0, 0], [1, 1, 1]),
    ],
)
def test_presets(name: str, mean: list[float], std: list[float]) -> None:
    pixels = all_values(3)
    result = Normalization.preset(name, "RGB").apply(pixels)
    assert result.dtype == torch.float32
    assert result.shape == pixels.shape
    np.testing.assert_allclose(result.numpy(), reference(pixels, mean, std), rtol=0, atol=TOLERANCE)


def test_for_one_channel_the_numbers_are_averaged() -> None:
    pixels = all_values(1)
    result = Normalization.preset("imagenet", "L").apply(pixels)
    np.testing.assert_allclose(result.numpy(), reference(pixels, [0.449], [0.226]), rtol=0, atol=TOLERANCE)
    assert Normalization.preset("half", "L") == Normalization((0.5,), (0.5,))


def test_explicit_numbers_count_channel_by_channel() -> None:
    pixels, mean, std = all_values(4), (0.1, 0.2, 0.3, 0.4), (1.0, 0.5, 0.25, 2.0)
    result = Normalization(mean, std).apply(pixels)
    np.testing.assert_allclose(result.numpy(), reference(pixels, mean, std), rtol=0, atol=1e-6)


def test_a_single_image_equals_its_place_in_a_batch() -> None:
    pixels = all_values(3)
    normalization = Normalization.preset("imagenet", "RGB")
    assert torch.equal(normalization.apply(pixels)[1], normalization.apply(pixels[1]))


def test_the_pixels_and_their_memory_format_are_left_as_they_are() -> None:
    pixels = all_values(3).contiguous(memory_format=torch.channels_last)
    before = pixels.clone()
    result = Normalization.preset("imagenet", "RGB").apply(pixels)
    assert torch.equal(pixels, before)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, Normalization.preset("imagenet", "RGB").apply(all_values(3)))


def test_constants_follow_the_pixels_to_their_device() -> None:
    normalization = Normalization.preset("half", "RGB")
    for device in ("cpu", "meta", "cpu"):
        assert normalization.apply(torch.zeros(1, 3, 2, 2, dtype=torch.uint8, device=device)).device.type == device


def test_a_first_call_in_inference_mode_does_not_spoil_later_ones() -> None:
    normalization = Normalization((0.123,), (0.456,))
    pixels = torch.ones(2, 1, 3, 3, dtype=torch.uint8)
    with torch.inference_mode():
        normalization.apply(pixels)
    layer = torch.nn.Conv2d(1, 1, 3)
    layer(normalization.apply(pixels)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_json_and_pickle_round_trips_are_exact(name: str, mode: Any) -> None:
    normalization = Normalization.preset(name, mode)
    assert Normalization.from_json(json.loads(json.dumps(normalization.to_json()))) == normalization
    assert pickle.loads(pickle.dumps(normalization)) == normalization


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(1, 3, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)],
    ids=["floats", "one channel", "no channel"],
)
def test_other_tensors_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="not uint8 pixels of 3 channels"):
        Normalization.preset("none", "RGB").apply(pixels)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5,), (0.5, 0.5)),
        ((), ()),
        ((0.5,), (0.0,)),
        ((0.5,), (-1.0,)),
        ((float("nan"),), (1.0,)),
        ((0.0,), (float("inf"),)),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="normalize"):
        Normalization(mean, std)


@pytest.mark.parametrize("value", [{}, {"mean": [0.5]}, {"mean": 0.5, "std": 0.5}, {"mean": ["a"], "std": [1]}])
def test_json_that_is_no_normalization_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not a normalization"):
        Normalization.from_json(value)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'imagenet'"):
        Normalization.preset("imagnet", "RGB")
