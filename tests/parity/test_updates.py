"""The direct update against torch's backward, clipping and step written out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mltrain.trainers.updates import DirectUpdate


@pytest.mark.parametrize("max_norm", [None, 1e-3, 0.5, 1e3])
@pytest.mark.parametrize("scale", ["one for all", "one each"])
def test_step_equals_torch_to_the_bit(max_norm: float | None, scale: str) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    reference = copy.deepcopy(model)
    mine = torch.optim.AdamW(model.parameters(), lr=0.01)
    theirs = torch.optim.AdamW(reference.parameters(), lr=0.01)
    update = DirectUpdate(mine, max_norm)
    for _ in range(5):
        inputs, targets = torch.randn(4, 6), torch.randint(0, 3, (4,))
        factors = torch.full((4,), 0.25) if scale == "one for all" else torch.rand(4)
        values = nn.functional.cross_entropy(model(inputs), targets, reduction="none")
        update.backward(values, 0.25 if scale == "one for all" else factors)
        norm = update.finish(want_norm=False)
        update.step()

        expected = nn.functional.cross_entropy(reference(inputs), targets, reduction="none")
        expected.backward(factors)
        if max_norm is not None:
            expected_norm = nn.utils.clip_grad_norm_(reference.parameters(), max_norm)
            assert norm is not None
            assert torch.equal(norm, expected_norm)
        theirs.step()
        theirs.zero_grad()
    for ours, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours, other)
        assert ours.grad is None


def test_norm_is_computed_when_asked_for_without_clipping() -> None:
    model = nn.Linear(3, 1, bias=False)
    update = DirectUpdate(torch.optim.SGD(model.parameters(), lr=0.0), None)
    update.backward(model(torch.tensor([[3.0, 4.0, 0.0]])).squeeze(1), 1.0)
    norm = update.finish(want_norm=True)
    assert norm is not None
    assert norm.item() == pytest.approx(5.0)
