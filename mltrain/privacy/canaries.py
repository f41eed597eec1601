"""Canaries: examples made to be found again in what training releases, and the private step run on them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.noise import NoiseSource
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.private_update import PrivateUpdate

__all__ = ["AuditedSteps", "Observation", "observe"]

# Gradients of canaries are this many times longer than what they are clipped to, so that clipping alone bounds them.
_LENGTH = 1000.0
# Coordinates that no example moves: they show the noise alone.
_SPARE = 256
_MICROBATCH = 256


@dataclass(frozen=True)
class AuditedSteps:
    """The private steps that are attacked.

    Attributes:
        num_samples, batch_size: of the plan; their ratio is the sample rate.
        steps: how many of the plan's steps are taken.
        noise_multiplier: standard deviation of the noise, over `max_grad_norm`.
        max_grad_norm: what one example may contribute.
        mode: how gradients of examples are had.
    """

    num_samples: int
    batch_size: int
    steps: int
    noise_multiplier: float
    max_grad_norm: float
    mode: Literal["ghost", "hooks"]

    @property
    def sample_rate(self) -> float:
        """Probability that a step sees an example."""
        return self.batch_size / self.num_samples

    def plan(self, canaries: int, key: bytes) -> PoissonPlan:
        """Return a plan of the same sample rate that is just large enough for the canaries."""
        divisor = math.gcd(self.num_samples, self.batch_size)
        num_samples, batch_size = self.num_samples // divisor, self.batch_size // divisor
        factor = -(-canaries // num_samples)
        num_epochs = -(-self.steps * self.batch_size // self.num_samples)
        return PoissonPlan(factor * num_samples, factor * batch_size, num_epochs, key=key)


@dataclass(frozen=True)
class Observation:
    """What the steps released about the canaries.

    Attributes:
        included: which canaries were in the data, shape (m,).
        sums: each step's noisy sum along each canary's direction, in clipping norms, shape (T, m).
        noise: each step's noisy sum along directions of no example, shape (T, spare).
    """

    included: NDArray[np.bool_]
    sums: NDArray[np.float64]
    noise: NDArray[np.float64]


def observe(audited: AuditedSteps, canaries: int, key: bytes) -> Observation:
    """Toss a coin for each canary, take the steps on those that are in, and read the weights after each.

    Args:
        audited: the steps.
        canaries: how many (m).
        key: 32 secret bytes that all that is drawn follows from.
    """
    coins = np.frombuffer(hashlib.shake_256(_subkey(key, "coins")).digest(canaries), dtype=np.uint8)
    included = coins % 2 == 1
    plan = audited.plan(canaries, _subkey(key, "plan"))
    # Each canary's gradient is a vector along a coordinate of its own: what it adds to a sum shows there alone.
    model = nn.Linear(canaries + _SPARE, 1, bias=False)
    nn.init.zeros_(model.weight)
    gradients = ClippedGradients(model, audited.max_grad_norm, audited.mode)
    try:
        update = PrivateUpdate(
            gradients,
            torch.optim.SGD(model.parameters(), lr=1.0),
            NoiseSource(_subkey(key, "noise")),
            noise_multiplier=audited.noise_multiplier,
            max_grad_norm=audited.max_grad_norm,
            batch_size=plan.batch_size,
        )
        released = _released(audited, model, update, plan, included)
    finally:
        gradients.close()
    return Observation(included, released[:, :canaries], released[:, canaries:])


def _released(
    audited: AuditedSteps, model: nn.Linear, update: PrivateUpdate, plan: PoissonPlan, included: NDArray[np.bool_]
) -> Any:
    """Take the steps; returns each one's noisy sum in clipping norms, shape (T, coordinates)."""
    released = np.empty((audited.steps, model.in_features))
    before = model.weight.detach().clone()
    for step in range(audited.steps):
        drawn = plan.window(*divmod(step, plan.windows_per_epoch))
        drawn = drawn[drawn < len(included)]
        present = torch.from_numpy(drawn[included[drawn]])
        for part in torch.split(present, _MICROBATCH):
            if len(part):
                update.add(_losses(model, part, _LENGTH * audited.max_grad_norm))
        update.finish(want_norm=False)
        update.step()
        after = model.weight.detach().clone()
        released[step] = ((before - after)[0].double() * plan.batch_size / audited.max_grad_norm).numpy()
        before = after
    return released


def _losses(model: nn.Linear, canaries: torch.Tensor, length: float) -> torch.Tensor:
    """Return losses, shape (b,), whose gradients have this length, each along its canary's coordinate."""
    inputs = torch.zeros(len(canaries), model.in_features)
    inputs[torch.arange(len(canaries)), canaries] = length
    losses: torch.Tensor = model(inputs).squeeze(1)
    return losses


def _subkey(key: bytes, use: str) -> bytes:
    return hashlib.shake_256(key + use.encode()).digest(32)
