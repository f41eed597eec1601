"""Steps that `private_step` compares: without privacy, Opacus as its guide writes it by hand, and mltrain's own.

Opacus draws its noise from torch's generator for simulations, mltrain from a keystream of AES.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Sampler

from benchmarks.contenders import Ticker
from benchmarks.ours import run
from benchmarks.problems import LOG_EVERY, MAX_NORM, SEED, Problem, collate

NOISE_MULTIPLIER = 1.0

Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From inputs and labels to the losses, or their mean; the weights have changed by then."""


class PoissonDraws(Sampler[list[int]]):
    """The windows that mltrain draws where they are to follow from the seed: both see the same examples."""

    def __init__(self, problem: Problem) -> None:
        from mltrain.privacy.poisson_plan import PoissonPlan

        key = hashlib.sha256(f"{SEED} draws 0".encode()).digest()
        plan = PoissonPlan(len(problem.samples), problem.batch_size, 1, key=key)
        self._windows = [plan.window(0, index).tolist() for index in range(plan.windows_per_epoch)]

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._windows)


def without_privacy(problem: Problem, clock: Ticker) -> None:
    """mltrain with its trainer `standard`."""
    run(problem, clock, {})


def ours(problem: Problem, clock: Ticker, mode: str) -> None:
    """mltrain with its trainer `dp`."""
    section = {"noise_multiplier": NOISE_MULTIPLIER, "max_grad_norm": MAX_NORM, "grad_sample_mode": mode}
    overrides = {f"training.dp.{key}": value for key, value in section.items()}
    run(problem, clock, {"training.trainer_type": "dp", "training.dp.reproducible": True, **overrides})


def opacus(problem: Problem, clock: Ticker, mode: str) -> None:
    """Opacus, the pieces that its engine would put together; it counts no epsilon, which mltrain does and logs."""
    model = problem.model()
    step = opacus_step(model, problem.optimizer(model), problem.batch_size, mode)
    loader: DataLoader[Any] = DataLoader(problem.samples, batch_sampler=PoissonDraws(problem), collate_fn=collate)
    with Path("log.jsonl").open("w") as log:
        for number, batch in enumerate(loader, 1):
            loss = step(batch["inputs"], batch["labels"])
            if number % LOG_EVERY == 0:
                log.write(json.dumps({"step": number, "loss": loss.item()}) + "\n")
            clock.tick(model)


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, *_: Any) -> Step:
    """Return the step of PyTorch alone, whatever the batch size and mode."""

    def step(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def opacus_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int, mode: str) -> Step:
    """Return Opacus's step."""
    from opacus.grad_sample import GradSampleHooks, GradSampleHooksFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    _spare_residuals(model)
    privacy = {"noise_multiplier": NOISE_MULTIPLIER, "max_grad_norm": MAX_NORM, "expected_batch_size": batch_size}
    criterion: Any = nn.CrossEntropyLoss()
    private: Any
    if mode == "ghost":
        hooks = GradSampleHooksFastGradientClipping(model, max_grad_norm=MAX_NORM, use_ghost_clipping=True)
        private = DPOptimizerFastGradientClipping(optimizer, **privacy)
        criterion = DPLossFastGradientClipping(hooks, private, criterion)
    else:
        GradSampleHooks(model)
        private = DPOptimizer(optimizer, **privacy)

    def step(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = criterion(model(inputs), labels)
        loss.backward()
        private.step()
        private.zero_grad()
        return loss

    return step


def our_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch_size: int, mode: str) -> Step:
    """Return the step of mltrain's trainer `dp`."""
    from mltrain.privacy.clipping import ClippedGradients
    from mltrain.privacy.noise import NoiseSource
    from mltrain.privacy.private_update import PrivateUpdate

    update = PrivateUpdate(
        ClippedGradients(model, MAX_NORM, mode),
        optimizer,
        NoiseSource(),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=MAX_NORM,
        batch_size=batch_size,
    )

    def step(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses = F.cross_entropy(model(inputs), labels, reduction="none")
        update.add(losses)
        update.finish(want_norm=False)
        update.step()
        return losses.detach()

    return step


class _Clone(nn.Module):
    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.clone()


def _spare_residuals(model: nn.Module) -> None:
    """Copy what transformers' ResNet changes in place after one of Opacus's hooks has seen it."""
    for layer in list(model.modules()):
        if isinstance(getattr(layer, "activation", None), nn.Identity):
            layer.activation = _Clone()
