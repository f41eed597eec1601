"""A draw that is empty is a step like any other: noise of the same scale, counted, told by nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from private_plans import EmptyPlan
from torch import nn

from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.noise import NoiseSource
from mltrain.privacy.private_update import PrivateUpdate

NOISE, CLIP, BATCH = 1.3, 0.7, 32


pytestmark = pytest.mark.usefixtures("quick_reports")


def update_of(model: nn.Module, mode: Any, noise: float = NOISE) -> PrivateUpdate:
    """Return the update of a model by plain gradient descent at rate 1: its weights change by the gradient."""
    return PrivateUpdate(
        ClippedGradients(model, CLIP, mode),
        torch.optim.SGD(model.parameters(), lr=1.0),
        NoiseSource(bytes(range(32))),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        batch_size=BATCH,
    )


def large_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.Flatten(), nn.Linear(16 * 36, 400))


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("mode", ["ghost", "hooks"])
@pytest.mark.parametrize("after_others", [False, True])
def test_noise_has_its_full_scale(mode: str, after_others: bool) -> None:
    model = large_model()
    update = update_of(model, mode)
    if after_others:
        update.add(model(torch.randn(5, 3, 8, 8)).square().mean(dim=1))
        update.finish(want_norm=True)
        update.step()
    before = flat(model).clone()
    norm = update.finish(want_norm=True)
    update.step()
    noise = flat(model) - before
    assert len(noise) > 200_000
    assert float(noise.std()) * BATCH / (NOISE * CLIP) == pytest.approx(1.0, abs=0.005)
    assert abs(float(noise.mean())) < 5 * float(noise.std()) / len(noise) ** 0.5
    assert norm is not None
    assert float(norm) == pytest.approx(float(noise.norm()), rel=1e-4)


@pytest.mark.parametrize("mode", ["ghost", "hooks"])
def test_a_full_draw_has_the_same_noise_around_its_clipped_sum(mode: str) -> None:
    model = large_model()
    images = torch.randn(6, 3, 8, 8)
    update, exact = update_of(model, mode), update_of(other := large_model(), mode, noise=0.0)
    for one, network in ((update, model), (exact, other)):
        start = flat(network).clone()
        one.add(network(images[:4]).square().mean(dim=1))
        one.add(network(images[4:]).square().mean(dim=1))
        one.finish(want_norm=False)
        one.step()
        network.change = flat(network) - start  # type: ignore[assignment]
    noise = model.change - other.change
    assert float(noise.std()) * BATCH / (NOISE * CLIP) == pytest.approx(1.0, abs=0.005)
    assert 0 < float(other.change.norm()) <= 6 * CLIP / BATCH * (1 + 1e-6)


def test_a_run_of_empty_draws_takes_and_counts_every_step(train_vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import mltrain.privacy.statement as statement
    import mltrain.trainers.dp as dp

    monkeypatch.setattr(dp, "PoissonPlan", EmptyPlan)
    monkeypatch.setattr(statement, "_pld", lambda _: None)  # takes seconds
    changes: list[torch.Tensor] = []
    step = PrivateUpdate.step

    def watched(self: PrivateUpdate) -> None:
        changes.append(torch.cat([parameter.grad.flatten() for parameter in self.gradients.parameters]))
        step(self)

    monkeypatch.setattr(PrivateUpdate, "step", watched)
    result = train_vectors(
        {
            "training.trainer_type": "dp",
            "training.dp": {"noise_multiplier": NOISE, "max_grad_norm": CLIP, "accountant": "rdp",
                            "grad_sample_mode": "ghost"},
            "training.num_epochs": 9,
            "checkpointing.every_n_steps": 10,
        }
    )  # fmt: skip
    noise = torch.stack(changes)
    assert result.summary["steps"] == len(noise) == 9 * 7
    assert result.summary["privacy"]["steps"] == 9 * 7
    assert float(noise.std()) * 8 / (NOISE * CLIP) == pytest.approx(1.0, abs=0.03)
