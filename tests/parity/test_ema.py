"""The average of the weights against torch's own."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mltrain.trainers.ema import EMA, averaged_copy


def ema_of(model: nn.Module, decay: float) -> EMA:
    return EMA(averaged_copy(model), model, decay)


def test_average_equals_torch_and_buffers_follow_the_model() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    ours, decay = ema_of(model, 0.9), 0.9
    reference = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    reference.update_parameters(model)  # its first update copies
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(12):
        model(torch.randn(16, 5)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ours.update()
        reference.update_parameters(model)
    for mine, theirs in zip(ours.model.parameters(), reference.module.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-7)
        assert not mine.requires_grad
    for mine, theirs in zip(ours.model.buffers(), model.buffers(), strict=True):
        assert torch.equal(mine, theirs)


def test_state_goes_to_and_fro() -> None:
    model = nn.Linear(3, 2)
    ema = ema_of(model, 0.5)
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update()
    other = ema_of(nn.Linear(3, 2), 0.5)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.model.weight, ema.model.weight)
    assert torch.allclose(ema.model.weight, model.weight - 0.5)
