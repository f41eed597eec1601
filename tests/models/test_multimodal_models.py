"""The multimodal autoencoder: shapes that come back, frames that share weights, examples that do not meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from per_example import relative_error
from torch import Tensor, nn

from mltrain.models.multimodal_models import MultimodalAutoencoder, PictureDecoder, PictureEncoder
from mltrain.privacy.clipping import ClippedGradients

SHAPES = {"video": (3, 9, 14), "audio": (10, 5), "text": (6,)}
SIZES = {"bottleneck": 7, "features": 5, "width": 4, "patch": 4, "hidden": 8, "dropout": 0.0}


def built(window: int = 3, **changes: Any) -> MultimodalAutoencoder:
    torch.manual_seed(0)
    return MultimodalAutoencoder(SHAPES, window, [4, 2], **{**SIZES, **changes})


def stimuli(count: int, window: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return {name: torch.randn(count, window, *shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("patch", [1, 3, 4])
def test_what_goes_in_comes_back_in_its_shape(window: int, patch: int) -> None:
    given = stimuli(2, window)
    outputs = built(window, patch=patch)(given)
    assert outputs["bottleneck"].shape == (2, 7)
    assert outputs["fmri"].shape == (2, 6)
    assert all(outputs[name].shape == given[name].shape for name in SHAPES)


def test_frames_share_weights_and_do_not_touch() -> None:
    """A frame has the same features wherever it stands in a window, and whatever stands beside it."""
    torch.manual_seed(0)
    encoder, decoder = PictureEncoder((3, 9, 14), 5, 4, 4), PictureDecoder((3, 9, 14), 5, 4, 4)
    pictures = torch.randn(2, 3, 3, 9, 14)
    features = encoder(pictures)
    torch.testing.assert_close(features[:, [2, 0, 1]], encoder(pictures[:, [2, 0, 1]]))
    torch.testing.assert_close(features[:, 1:2], encoder(pictures[:, 1:2]))
    torch.testing.assert_close(decoder(features)[:, 1:2], decoder(features[:, 1:2]))


def test_every_pixel_is_seen_and_every_weight_is_used() -> None:
    model, given = built(), {name: values.requires_grad_() for name, values in stimuli(1).items()}
    sum(output.square().sum() for output in model(given).values()).backward()
    assert all((values.grad != 0).all() for values in given.values())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_each_example_stands_for_itself() -> None:
    model, given = built(), stimuli(4)
    whole, alone = model(given), model({name: values[2:3] for name, values in given.items()})
    for name, values in alone.items():
        torch.testing.assert_close(whole[name][2:3], values)


def losses_of(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
    outputs = model(given)
    shown = sum((outputs[name] - given[name]).square().flatten(1).mean(1) for name in SHAPES)
    return shown + outputs["fmri"].square().mean(1)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_clipped_gradients_are_those_of_single_examples(mode: Any) -> None:
    model, given, bound = built().double(), {name: values.double() for name, values in stimuli(5).items()}, 0.3
    expected = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for index in range(5):
        one = {name: values[index : index + 1] for name, values in given.items()}
        gradients = torch.autograd.grad(losses_of(model, one).sum(), list(model.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for total, gradient in zip(expected, gradients, strict=True):
            total += gradient * (bound / norm).clamp(max=1.0)
    clipped = ClippedGradients(model, bound, mode)
    clipped.add(losses_of(model, given))
    assert relative_error(clipped.sums, expected) < 1e-6
