"""The update with loss scaling, which float16 needs: here with a CPU's scaler, so that it runs without a GPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.updates import AcceleratedUpdate, DirectUpdate, new_update

INPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def pair(max_norm: float | None) -> tuple[nn.Module, AcceleratedUpdate, nn.Module, DirectUpdate, Any]:
    """The same network twice: under a scaler of 2^10, and without."""
    torch.manual_seed(0)
    plain = nn.Linear(4, 2)
    accelerator = new_accelerator("cpu", mixed_precision="no")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaled = copy.deepcopy(plain)
    optimizer = torch.optim.SGD(scaled.parameters(), lr=0.5)
    model, prepared = accelerator.prepare(scaled, optimizer)
    # What Accelerate goes by when it unscales before clipping; its own constructor refuses float16 on a CPU.
    accelerator.native_amp = True
    accelerator.state._mixed_precision = "fp16"
    counted, update = new_update(accelerator, optimizer, prepared, max_norm)
    assert isinstance(update, AcceleratedUpdate)
    assert counted is prepared
    return model, update, plain, DirectUpdate(torch.optim.SGD(plain.parameters(), lr=0.5), max_norm), accelerator


@pytest.mark.parametrize("max_norm", [None, 0.1, 100.0])
def test_scaling_changes_nothing_but_the_scale(max_norm: float | None) -> None:
    scaled, update, plain, direct, _ = pair(max_norm)
    for _ in range(4):
        norms = []
        for model, way in ((scaled, update), (plain, direct)):
            for part in INPUTS.split(4):  # two microbatches of one window
                way.backward(model(part).square().sum(dim=1), 1 / 6)
            norms.append(way.finish(want_norm=True))
            way.step()
        assert norms[0] is not None
        assert torch.allclose(norms[0], norms[1], rtol=1e-5)
    for mine, theirs in zip(scaled.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5)


def test_an_overflow_skips_the_step_and_lowers_the_scale() -> None:
    scaled, update, _, _, accelerator = pair(1.0)
    before = copy.deepcopy(scaled.state_dict())
    update.backward(scaled(INPUTS).sum(dim=1) * float("inf"), 1.0)
    assert update.is_sound(update.finish(want_norm=False)), "that is for the scaler to judge"
    update.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in scaled.state_dict().items())
    assert accelerator.scaler.get_scale() == 2.0**9
    assert all(parameter.grad is None for parameter in scaled.parameters())


def test_the_scale_survives_a_checkpoint() -> None:
    import json

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=3)
    scaler.scale(torch.ones(1))
    other = torch.amp.GradScaler("cpu")
    other.load_state_dict(json.loads(json.dumps(scaler.state_dict())))
    assert other.get_scale() == scaler.get_scale() == 2.0**7
