"""The learning rate as a function of the step.

All schedules but `plateau` are pure functions, so a resumed run needs no state of theirs and a skipped or repeated
step cannot shift them. torch's own scheduler objects count their calls instead, and Accelerate's wrapper steps them
once a process; the tests hold these functions equal to torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mltrain.config.training import SchedulerSection, metric_name

__all__ = ["Schedule"]


class Schedule:
    """Sets the learning rate of each parameter group before each step.

    The groups keep their proportions: `min_lr` is the lowest rate of the group with the highest, and less for others.

    Warm-up of W steps: base * (s + 1) / (W + 1) for s < W. The schedule proper begins at step W with the base rate.

    Args:
        section: the configuration.
        optimizer: whose groups are set; the rates they have now are the base rates.
        steps_per_epoch: optimizer steps of an epoch.
        num_epochs: epochs of the whole run; cosine and linear end with the last step of the last one.
    """

    def __init__(
        self, section: SchedulerSection, optimizer: torch.optim.Optimizer, *, steps_per_epoch: int, num_epochs: int
    ) -> None:
        self._section, self._optimizer = section, optimizer
        rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        self._base = max(rates)
        self._shares = [rate / self._base for rate in rates]
        self._steps_per_epoch = steps_per_epoch
        self._warmup = _warmup_steps(section, steps_per_epoch)
        self._span = max(1, steps_per_epoch * num_epochs - self._warmup)
        self._curve = _CURVES[section.name]
        self._plateau = _Plateau(section)

    @property
    def monitor(self) -> str | None:
        """The metric that the schedule needs after each epoch, or None."""
        return metric_name(self._section.monitor) if self._section.name == "plateau" else None

    @property
    def warmup_steps(self) -> int:
        """Length of the warm-up."""
        return self._warmup

    def set(self, step: int) -> None:
        """Set the learning rates for the optimizer step number `step`, from 0."""
        rate = self.rate(self._base, step)
        for group, share in zip(self._optimizer.param_groups, self._shares, strict=True):
            group["lr"] = rate * share

    def rate(self, base: float, step: int) -> float:
        """Return the learning rate of a group whose base rate is `base` at a step."""
        if step < self._warmup:
            return base * (step + 1) / (self._warmup + 1)
        return self._curve(self, base, step - self._warmup)

    def epoch_end(self, values: Mapping[str, float]) -> None:
        """Take in the metrics of an epoch."""
        if self.monitor is not None:
            self._plateau.take(values[self.monitor])

    def state(self) -> dict[str, Any]:
        """Return what is not a function of the step, as JSON values."""
        return self._plateau.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back a state."""
        self._plateau.load(state)

    def _none(self, base: float, step: int) -> float:
        return base

    def _cosine(self, base: float, step: int) -> float:
        low = self._section.min_lr
        return low + (base - low) * (1 + math.cos(math.pi * min(step / self._span, 1.0))) / 2

    def _linear(self, base: float, step: int) -> float:
        low = self._section.min_lr
        return low + (base - low) * (1 - min(step / self._span, 1.0))

    def _step(self, base: float, step: int) -> float:
        falls = step // self._steps_per_epoch // self._section.step_size
        return max(self._section.min_lr, base * self._section.gamma**falls)

    def _exponential(self, base: float, step: int) -> float:
        return max(self._section.min_lr, base * self._section.gamma ** (step // self._steps_per_epoch))

    def _fallen(self, base: float, step: int) -> float:
        return max(self._section.min_lr, base * self._section.gamma**self._plateau.falls)


_CURVES: dict[str, Callable[[Schedule, float, int], float]] = {
    "cosine": Schedule._cosine,
    "linear": Schedule._linear,
    "step": Schedule._step,
    "exponential": Schedule._exponential,
    "plateau": Schedule._fallen,
    "none": Schedule._none,
}


class _Plateau:
    """Counts falls as torch's ReduceLROnPlateau does, with its relative threshold of 1e-4 and no cooldown."""

    threshold = 1e-4

    def __init__(self, section: SchedulerSection) -> None:
        self._patience, self._mode = section.patience, section.mode
        self._best = math.inf if section.mode == "min" else -math.inf
        self._waited = 0
        self.falls = 0

    def take(self, value: float) -> None:
        if self._mode == "min":
            better = value < self._best * (1 - self.threshold) if math.isfinite(self._best) else value < self._best
        else:
            better = value > self._best * (1 + self.threshold) if math.isfinite(self._best) else value > self._best
        if better:
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self._patience:
            self.falls, self._waited = self.falls + 1, 0

    def state(self) -> dict[str, Any]:
        return {"best": self._best if math.isfinite(self._best) else None, "waited": self._waited, "falls": self.falls}

    def load(self, state: Mapping[str, Any]) -> None:
        if state["best"] is not None:
            self._best = state["best"]
        self._waited, self.falls = state["waited"], state["falls"]


def _warmup_steps(section: SchedulerSection, steps_per_epoch: int) -> int:
    if section.warmup_steps is not None:
        return section.warmup_steps
    return round((section.warmup_epochs or 0.0) * steps_per_epoch)
