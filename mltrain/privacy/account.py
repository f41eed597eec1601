"""What a private run may do and has done: its plan, its accountant and its ledger, which belong together."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mltrain.config.training import DPSection
from mltrain.core.errors import ConfigError
from mltrain.privacy.accounting import Accountant, calibrate_noise, check_delta, default_delta
from mltrain.privacy.ledger import Ledger
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.privacy.running_epsilon import RunningEpsilon

__all__ = ["PrivacyAccount", "checked_plan", "new_accountant"]


def checked_plan(num_samples: int, batch_size: int, num_epochs: int, *, where: str) -> PoissonPlan:
    """Return the plan of a run, for its figures alone.

    Raises:
        ConfigError: the batch of a step is larger than the data; `where` says whose fault it is.
    """
    if batch_size > num_samples:
        raise ConfigError(
            f"a step would hold {batch_size} examples, over accumulation and processes, and there are {num_samples}",
            where=where,
            fix="Use a smaller one.",
        )
    return PoissonPlan(num_samples, batch_size, num_epochs)


def new_accountant(section: DPSection, plan: PoissonPlan, *, noise_multiplier: float | None = None) -> Accountant:
    """Return the accountant of a plan; the noise is calibrated where the configuration leaves it open.

    Args:
        section: the configuration.
        plan: says how often each sample is drawn, and for how many steps.
        noise_multiplier: of a run that has begun, in place of the configuration's.

    Raises:
        ConfigError: the target cannot be met, or delta is too large.
    """
    delta = section.target_delta or default_delta(plan.num_samples)
    check_delta(delta, plan.num_samples)
    noise = section.noise_multiplier if noise_multiplier is None else noise_multiplier
    if noise is None:
        if section.target_epsilon is None:
            raise ConfigError(
                "neither noise_multiplier nor target_epsilon is set",
                where="training.dp",
                fix="Set target_epsilon: 3.0, or another budget; the noise follows from it.",
            )
        noise = calibrate_noise(
            target_epsilon=section.target_epsilon,
            delta=delta,
            sample_rate=plan.sample_rate,
            steps=plan.total_steps,
            kind=section.accountant,
        )
    return Accountant(plan.sample_rate, noise, delta, section.accountant)


class PrivacyAccount:
    """Counts the steps of a run, and says what they cost and how many more may be taken.

    Args:
        plan: draws the windows.
        accountant: of that plan.
        target_epsilon: what must not be passed; None: anything goes.
        ledger: counts on the disk; None: another process does.
        steps: what the ledger has counted so far.
    """

    def __init__(
        self,
        plan: PoissonPlan,
        accountant: Accountant,
        *,
        target_epsilon: float | None,
        ledger: Ledger | None,
        steps: int,
    ) -> None:
        self.plan, self.accountant, self.target_epsilon = plan, accountant, target_epsilon
        self.steps = steps
        self._ledger = ledger
        self._begun: int | None = None
        self._most: int | None = None
        self._running: RunningEpsilon | None = None

    def begin_step(self, position: int) -> None:
        """Count a step before anything of it is computed. A step that is tried again counts once.

        Args:
            position: the run's own number of the step, from 0; it never falls within a segment.

        Raises:
            RuntimeError: the step would pass the target.
            CheckpointError: the ledger cannot be written.
        """
        if position == self._begun:
            return
        if self.steps_allowed(position) < 1:
            raise RuntimeError(f"step {position + 1} would pass epsilon {self.target_epsilon}")
        if self._ledger is not None:
            self._ledger.begin_step(position)
        self.steps += 1
        self._begun = position

    def settle(self) -> None:
        """Return when the disk has the step that was begun, so that it may change weights.

        Raises:
            CheckpointError: the ledger cannot be written.
        """
        if self._ledger is not None:
            self._ledger.settle()

    def steps_allowed(self, position: int) -> int:
        """Return how many more steps may be taken.

        Args:
            position: steps of the plan that are done.
        """
        if self.target_epsilon is None:
            return sys.maxsize
        if self._most is None:
            planned = self.steps + self.plan.total_steps - position
            self._most = self.accountant.most_steps(self.target_epsilon, planned)
        return self._most - self.steps

    def epsilon(self, steps: int | None = None) -> float:
        """Return what so many steps cost, or a little more: quick enough for each log point. None: all so far."""
        steps = self.steps if steps is None else steps
        if self._running is None:
            done = 0 if self._begun is None else self._begun + 1
            self._running = RunningEpsilon(self.accountant, self.steps + self.plan.total_steps - done)
        bound = self._running(steps)
        if self.target_epsilon is not None and bound > self.target_epsilon:
            return min(bound, self.accountant.epsilon(steps))
        return bound

    def state(self) -> dict[str, Any]:
        """Return the ledger's state, as JSON values; only on the process that keeps it."""
        return {} if self._ledger is None else self._ledger.state()

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise CheckpointError where a checkpoint is not of this ledger, or knows of more steps than it."""
        if self._ledger is not None:
            self._ledger.check(state)

    @property
    def segments(self) -> list[dict[str, Any]]:
        """What the ledger says of each part of the run; on the process that keeps it."""
        return [] if self._ledger is None else self._ledger.segments

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()
