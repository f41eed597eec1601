"""A run that continues on another number of processes: its windows stay what they were, and are cut anew.

A window holds batch_size x processes x gradient_accumulation_steps samples. Which ones follows from the seed, the epoch
and that product alone (see `data/plan.py`): a run that keeps the product keeps the order of its samples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from mltrain.config.load import LoadedConfig
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.workflows.resume import ResumePoint, own_values

__all__ = ["ACCUMULATION", "BATCH_SIZE", "WindowCut", "fitting_cut", "keep_window"]

BATCH_SIZE, ACCUMULATION = "training.batch_size", "training.gradient_accumulation_steps"

_SHOWN = 8


@dataclass(frozen=True)
class WindowCut:
    """How a full window is cut.

    processes: how many share it evenly.
    accumulation: microbatches of each process.
    batch_size: samples of a microbatch.
    """

    processes: int
    accumulation: int
    batch_size: int

    @property
    def window_size(self) -> int:
        """Samples of the window."""
        return self.processes * self.accumulation * self.batch_size

    def __str__(self) -> str:
        return f"{self.processes} process(es) x {self.accumulation} microbatch(es) of {self.batch_size}"


def keep_window(
    loaded: LoadedConfig, point: ResumePoint, *, auto: bool, group_size: int, processes: int
) -> tuple[Config, ResumePoint]:
    """Return the configuration and the point of a segment, so that the windows are those of the run.

    What was set otherwise than the run has it stays, and the other of `training.batch_size` and
    `training.gradient_accumulation_steps` follows. Where neither was, both follow, and the run folder keeps its own.

    Args:
        loaded: as the segment was asked for.
        point: where the run continues.
        auto: the run was found by its name: the command is the one that began it, so it sets nothing anew.
        group_size: neighbours of a window that no cut separates.
        processes: how many there are now.

    Raises:
        ConfigError: the window cannot be cut so.
    """
    config, folder = loaded.config, point.folder
    asked = config.training
    wanted = WindowCut(processes, asked.gradient_accumulation_steps, asked.batch_size)
    window_size: int = read_json(folder.metadata)["window_size"]
    if wanted.window_size == window_size:
        return config, point
    values = own_values(folder.path, config)["training"]
    own = {key: int(values[key.rpartition(".")[2]]) for key in (BATCH_SIZE, ACCUMULATION)}
    by_hand = {
        key
        for key, value in {BATCH_SIZE: wanted.batch_size, ACCUMULATION: wanted.accumulation}.items()
        if own[key] != value or (key in loaded.overrides and not auto)
    }
    cut = fitting_cut(window_size, wanted, group_size=group_size, by_hand=by_hand, run=str(folder.path))
    training = asked.model_copy(update={"batch_size": cut.batch_size, "gradient_accumulation_steps": cut.accumulation})
    before = window_size // (own[ACCUMULATION] * own[BATCH_SIZE])
    notice = (
        f"Windows stay {window_size} samples, in the same order: {cut}, instead of {before} x {own[ACCUMULATION]} of "
        f"{own[BATCH_SIZE]}. Dropout and batch statistics depend on this cut, the gradient of all else does not."
    )
    continued = replace(point, kept={} if by_hand else own, notice=notice)
    return config.model_copy(update={"training": training}), continued


def fitting_cut(
    window_size: int, wanted: WindowCut, *, group_size: int, by_hand: Collection[str], run: str
) -> WindowCut:
    """Return the cut of a window that is nearest to the wanted one.

    A microbatch never grows, lest memory run out, unless the accumulation was set by hand.

    Args:
        window_size: samples of a full window.
        wanted: of the number of processes that there are.
        group_size: neighbours of the window that no cut separates.
        by_hand: of BATCH_SIZE and ACCUMULATION those that must stay.
        run: what the window belongs to, for people.

    Raises:
        ConfigError: there is none.
    """
    processes = wanted.processes
    if len(by_hand) == 2 and wanted.window_size != window_size:
        raise ConfigError(
            f"{wanted} are {wanted.window_size} samples, but the windows of {run} have {window_size}",
            where=BATCH_SIZE,
            fix="Leave one of the two out: it follows from the other. Or start a new run.",
        )
    groups, rest = divmod(window_size, processes * group_size)
    if rest:
        _refuse_processes(window_size, processes, group_size, run)
    share = groups * group_size
    if ACCUMULATION in by_hand:
        if groups % wanted.accumulation:
            _refuse(ACCUMULATION, wanted.accumulation, window_size, processes, _divisors(groups))
        return WindowCut(processes, wanted.accumulation, share // wanted.accumulation)
    sizes = [divisor * group_size for divisor in _divisors(groups)]
    if BATCH_SIZE in by_hand:
        if wanted.batch_size not in sizes:
            _refuse(BATCH_SIZE, wanted.batch_size, window_size, processes, sizes)
        return WindowCut(processes, share // wanted.batch_size, wanted.batch_size)
    # Batches smaller than a group are refused elsewhere: such a run has other data than it began with.
    size = max((size for size in sizes if size <= wanted.batch_size), default=group_size)
    return WindowCut(processes, share // size, size)


def _refuse_processes(window_size: int, processes: int, group_size: int, run: str) -> NoReturn:
    in_groups = f" in groups of {group_size}" if group_size > 1 else ""
    raise ConfigError(
        f"its windows of {window_size} samples{in_groups} cannot be shared evenly by {processes} processes",
        where=run,
        fix=f"Continue it with {_one_of(_divisors(window_size // group_size), processes)} processes.",
    )


def _refuse(key: str, value: int, window_size: int, processes: int, fitting: Sequence[int]) -> NoReturn:
    each = f"of which each of {processes} processes takes {window_size // processes}"
    raise ConfigError(
        f"is {value}, which does not fit the windows of this run: {window_size} samples"
        + (f", {each}" if processes > 1 else ""),
        where=key,
        fix=f"Set it to {_one_of(fitting, value)}, or leave it out. Another window is a new run.",
    )


def _divisors(number: int) -> list[int]:
    small = [divisor for divisor in range(1, int(number**0.5) + 1) if number % divisor == 0]
    return sorted({*small, *(number // divisor for divisor in small)})


def _one_of(numbers: Sequence[int], wanted: int) -> str:
    """Return the numbers nearest to the wanted one, in order, for people."""
    *first, last = sorted(sorted(numbers, key=lambda number: abs(number - wanted))[:_SHOWN])
    return f"{', '.join(map(str, first))} or {last}" if first else str(last)
