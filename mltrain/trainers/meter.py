"""What an epoch or an evaluation adds up: losses and the task's metrics."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from mltrain.core.errors import ConfigError
from mltrain.data.loader import Batch
from mltrain.tasks.base import Losses, Metrics

__all__ = ["Meter"]

_FOLD_AFTER = 256


class Meter:
    """Adds up batches without waiting for the device: tensors are kept, and read only when a value is asked for.

    Losses are added one example after the other in double precision, so the sum does not depend on when it was read,
    and a run that stopped in mid-epoch continues to the same bits.

    Args:
        metrics: the task's accumulator.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._pending: list[tuple[torch.Tensor | None, dict[str, torch.Tensor]]] = []
        self._sums: dict[str, float] = {}
        self._weight = 0.0
        self._recent = self._recent_weight = 0.0
        self._of_window = self._passed = 0

    def begin_window(self, *, again: bool) -> None:
        """Take note that a window begins; `again`: the same one, and what was taken in of it counts once."""
        self._passed = 0
        if not again:
            self._of_window = 0

    def add(self, losses: Losses, batch: Batch, weights: torch.Tensor | None) -> None:
        """Take in one batch; `weights` (B,) are those of its examples in a mean, None: each counts once."""
        self._passed += len(losses.values)
        if self._passed <= self._of_window:
            return
        if not self._pending:
            _check_count(losses.values, batch)
        self.metrics.update(losses.outputs, batch)
        self._of_window = self._passed
        values = {"loss": losses.values.detach()}
        for name, part in losses.parts.items():
            values[name] = part.detach()
        self._pending.append((weights, values))
        if len(self._pending) >= _FOLD_AFTER:
            self._fold()

    def leave_out(self, losses: Losses) -> None:
        """Pass over a batch of the window."""
        self._passed += len(losses.values)
        self._of_window = max(self._of_window, self._passed)

    def compute(self) -> dict[str, float]:
        """Return the mean loss, its parts and the task's metrics over everything taken in."""
        self._fold()
        means = {name: total / self._weight for name, total in self._sums.items()} if self._weight else {}
        return means | self.metrics.compute()

    def take_recent_loss(self) -> tuple[float, float]:
        """Return the sum of the weighted losses since the last call, and of their weights."""
        self._fold()
        recent = self._recent, self._recent_weight
        self._recent = self._recent_weight = 0.0
        return recent

    def state(self) -> dict[str, Any]:
        """Return everything taken in, as JSON values; the sums as hexadecimal texts: a part may be infinite."""
        self._fold()
        return {
            "sums": {name: total.hex() for name, total in self._sums.items()},
            "weight": self._weight.hex(),
            "recent": [self._recent.hex(), self._recent_weight.hex()],
            "metrics": self.metrics.state(),
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another meter took in."""
        self._fold()
        for name, total in state["sums"].items():
            self._sums[name] = self._sums.get(name, 0.0) + float.fromhex(total)
        self._weight += float.fromhex(state["weight"])
        self._recent += float.fromhex(state["recent"][0])
        self._recent_weight += float.fromhex(state["recent"][1])
        self.metrics.merge(state["metrics"])

    def _fold(self) -> None:
        if not self._pending:
            return
        weights: list[float] = []
        for given, values in self._pending:
            weights += [1.0] * len(values["loss"]) if given is None else given.tolist()
        for name in self._pending[0][1]:
            read = torch.cat([values[name] for _, values in self._pending]).tolist()
            weighted = [weight * value for weight, value in zip(weights, read, strict=True)]
            self._sums[name] = _add(weighted, self._sums.get(name, 0.0))
            if name == "loss":
                self._recent = _add(weighted, self._recent)
        self._weight = _add(weights, self._weight)
        self._recent_weight = _add(weights, self._recent_weight)
        self._pending.clear()


def _check_count(values: torch.Tensor, batch: Batch) -> None:
    """Raise ConfigError where there are as many losses as no tensor of the batch has examples."""
    if batch and all(tensor.shape[:1] != values.shape for tensor in batch.values()):
        sizes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in batch.items())
        raise ConfigError(
            f"the task gave {len(values)} loss(es) for a batch of {sizes}",
            where="losses",
            fix="Give one loss for each example, shape (B,).",
        )


def _add(values: Iterable[float], start: float) -> float:
    # Not sum(): from Python 3.12 it compensates rounding, and its result would depend on where the sum was cut.
    return functools.reduce(operator.add, values, start)
