"""What privacy a configuration gives, or what noise a privacy takes, before anything is trained."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltrain.config.load import name_place
from mltrain.config.schema import Config
from mltrain.config.training import DPSection
from mltrain.core.errors import ConfigError, DataError, MltrainError
from mltrain.core.logging import log
from mltrain.privacy.account import checked_plan, new_accountant
from mltrain.privacy.accounting import Accountant
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.tasks.base import TASKS
from mltrain.workflows.request import ConfigLike, read_request

__all__ = ["PlannedRun", "PrivacyPlan", "privacy_plan"]


@dataclass(frozen=True)
class PlannedRun:
    """A run that might be trained.

    Attributes:
        num_epochs: its epochs.
        batch_size: examples that a step holds on average, over accumulation and processes.
        sample_rate: probability of each example to be in a step (q).
        steps: of all epochs (T).
        noise_multiplier: standard deviation of the noise, over the clipping norm; None where `problem` says why.
        epsilon: after the last step; infinite without noise; None where `problem` says why.
        problem: why there is no figure, or "".
        stops_after: steps that noise and target together allow, if fewer than all.
    """

    num_epochs: int
    batch_size: int
    sample_rate: float
    steps: int
    noise_multiplier: float | None
    epsilon: float | None
    problem: str = ""
    stops_after: int | None = None


@dataclass(frozen=True)
class PrivacyPlan:
    """The answer.

    Attributes:
        num_samples: training examples (N).
        delta: probability that epsilon does not hold with.
        accountant: "prv" or "rdp".
        asked: "epsilon" of a noise, or the "noise" of an epsilon.
        target_epsilon: the budget, if there is one.
        run: as configured.
        table: further runs, by batch size and epochs.
    """

    num_samples: int
    delta: float
    accountant: str
    asked: str
    target_epsilon: float | None
    run: PlannedRun
    table: tuple[PlannedRun, ...]


def privacy_plan(
    config: ConfigLike,
    overrides: Mapping[str, Any] | None = None,
    *,
    noise_multiplier: float | None = None,
    target_epsilon: float | None = None,
    epochs: Sequence[int] = (),
    batch_sizes: Sequence[int] = (),
    num_samples: int | None = None,
    num_processes: int = 1,
    by_hand: str = "overrides",
) -> PrivacyPlan:
    """Return epsilon for a noise, or the noise for an epsilon, as configured and over epochs and batch sizes.

    Args:
        config, overrides: as for `train`; `training.trainer_type` may be any.
        noise_multiplier: in place of `training.dp.noise_multiplier`.
        target_epsilon: in place of `training.dp.target_epsilon`. Without a noise multiplier beside it, that of the
            configuration is disregarded, and the noise that it takes is found.
        epochs, batch_sizes: rows of the table: values of `training.num_epochs` and `training.batch_size`. Default:
            half of, as, and twice as configured.
        num_samples: training examples; None counts those of the data.
        num_processes: how many processes will train.
        by_hand: what the overrides are called in errors.

    Raises:
        ConfigError: the configuration is not valid, neither noise nor epsilon is known, or it cannot be reached.
        DataError: the data cannot be read.
    """
    for name, values in (
        ("--epochs", epochs), ("--batch_sizes", batch_sizes), ("--num_processes", [num_processes]),
        ("--samples", [] if num_samples is None else [num_samples]),
    ):  # fmt: skip
        for value in values:
            if value < 1:
                raise ConfigError(f"is {value}", where=name, fix="Use 1 or more.")
    request = read_request(config, overrides, by_hand=by_hand)
    try:
        checked = request.load().config
        section = _section(checked.training.dp, noise_multiplier, target_epsilon)
        size = _num_training_samples(checked) if num_samples is None else num_samples
        share = checked.training.gradient_accumulation_steps * num_processes
        return _answer(checked, section, size, share, epochs, batch_sizes)
    except MltrainError as error:
        name_place(error, request.file, request.overrides, by_hand=by_hand)
        raise


def _section(section: DPSection, noise_multiplier: float | None, target_epsilon: float | None) -> DPSection:
    if noise_multiplier is not None and not 0 <= noise_multiplier < math.inf:
        raise ConfigError(f"is {noise_multiplier:g}", where="--noise_multiplier", fix="Use 0 or more.")
    if target_epsilon is not None and not 0 < target_epsilon < math.inf:
        raise ConfigError(f"is {target_epsilon:g}", where="--target_epsilon", fix="Use a value above 0.")
    if noise_multiplier is not None or target_epsilon is not None:
        section = section.model_copy(update={"noise_multiplier": noise_multiplier})
    if target_epsilon is not None:
        section = section.model_copy(update={"target_epsilon": target_epsilon})
    if section.noise_multiplier is None and section.target_epsilon is None:
        raise ConfigError(
            "neither a noise nor an epsilon is given",
            where="training.dp",
            fix="Add --target_epsilon 3 for the noise that it takes, or --noise_multiplier 1 for the epsilon that it "
            "gives.",
        )
    return section


def _num_training_samples(config: Config) -> int:
    dataset = TASKS.get(config.task)(config).datasets().get("train")
    if dataset is None:
        raise DataError("there is no training split", fix="Give the number of training examples with --samples.")
    return len(dataset)


def _answer(
    config: Config, section: DPSection, num_samples: int, share: int, epochs: Iterable[int], batch_sizes: Iterable[int]
) -> PrivacyPlan:
    training = config.training
    plan = checked_plan(num_samples, training.batch_size * share, training.num_epochs, where="training.batch_size")
    accountant = new_accountant(section, plan)
    run = _planned(section, plan, accountant)
    sizes = [size * share for size in batch_sizes]
    for size in sizes:
        checked_plan(num_samples, size, 1, where="--batch_sizes")
    sizes = sizes or [size for size in _around(plan.batch_size) if size <= num_samples]
    with _warnings_alone():  # a line of the log for each calibration would bury the answer
        table = [
            _attempt(section, PoissonPlan(num_samples, size, count))
            for size, count in itertools.product(sorted(set(sizes)), sorted(set(epochs or _around(plan.num_epochs))))
        ]
    return PrivacyPlan(
        num_samples=num_samples,
        delta=accountant.delta,
        accountant=accountant.kind,
        asked="noise" if section.noise_multiplier is None else "epsilon",
        target_epsilon=section.target_epsilon,
        run=run,
        table=tuple(table),
    )


def _around(value: int) -> list[int]:
    return [max(1, value // 2), value, 2 * value]


def _attempt(section: DPSection, plan: PoissonPlan) -> PlannedRun:
    """Return a row of the table, which may have no figure where the others have one."""
    try:
        return _planned(section, plan, new_accountant(section, plan))
    except ConfigError as error:
        noise, steps = section.noise_multiplier, plan.total_steps
        return PlannedRun(plan.num_epochs, plan.batch_size, plan.sample_rate, steps, noise, None, str(error))


def _planned(section: DPSection, plan: PoissonPlan, accountant: Accountant) -> PlannedRun:
    noise, steps, target = accountant.noise_multiplier, plan.total_steps, section.target_epsilon
    epsilon = accountant.epsilon(steps)
    # A noise that was calibrated keeps to the target.
    passes = section.noise_multiplier is not None and target is not None and epsilon > target
    return PlannedRun(
        plan.num_epochs, plan.batch_size, plan.sample_rate, steps, noise, epsilon,
        stops_after=accountant.most_steps(target, steps) if passes and target is not None else None,
    )  # fmt: skip


@contextlib.contextmanager
def _warnings_alone() -> Iterator[None]:
    level = log.level
    log.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        log.setLevel(level)
