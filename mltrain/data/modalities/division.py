"""Which samples and subjects of recordings are train, val and test, and the refusals of what leaves too few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError
from mltrain.data.modalities.blocks import TEST, TimeBlocks, assign_sides, least_blocks, least_gap

__all__ = ["Division", "Part", "divided", "gap_between", "refuse_too_few"]


@dataclass(frozen=True)
class Division:
    """How recordings are divided: see `data.modalities.blocks`.

    by: whole blocks of time, or whole subjects, go to one side.
    fold: which fold is validated.
    gap: samples left out where the side changes; None: twice the delay and the window.
    """

    by: Literal["time", "subject"]
    fold: int
    folds: int
    test_share: float
    seed: int
    block_length: int
    gap: int | None


@dataclass(frozen=True)
class Part:
    """One split: its samples, by the time of their newest stimulus, and the subjects whose responses it holds."""

    times: NDArray[np.int64]
    subjects: tuple[str, ...]


def refuse_too_few(division: Division, count: int, delay: int, window: int, said: str) -> None:
    """Refuse a delay and a window that leave no sample, or too few for sides that are so far apart.

    Args:
        division: how samples are divided.
        count: samples of the arrays.
        delay, window: see `Recordings`.
        said: who says the delay, for the message.

    Raises:
        ConfigError: with the most that the two may be.
    """
    blocks, by_time = least_blocks(count, division.folds, division.test_share), division.by == "time"
    # Blocks must be longer than `least_gap`: (count - least) // blocks > least, solved for delay + window.
    most = (count - blocks) // (blocks + 1) + 1 if by_time and blocks <= count else count
    if delay + window <= most:
        return
    where, what = ("delay", f"is {delay}{said}") if delay >= window else ("window", f"is {window}")
    left = max(0, count + 1 - delay - window)
    raise ConfigError(
        f"{what}, which leaves {left} of {count} samples"
        + (f", too few for {division.folds} folds and a test split with such a gap between them" if by_time else ""),
        where=f"data.{where}",
        fix=f"Lower data.delay + data.window to at most {most}{', or lower data.folds' if by_time else ''}.",
    )


def gap_between(division: Division, samples: int, delay: int, window: int) -> int:
    """Return how many samples are left out where the side changes.

    Args:
        division: how samples are divided.
        samples: how many can be used.
        delay, window: see `Recordings`.

    Raises:
        ConfigError: `data.gap` is too short for them, or leaves nothing.
    """
    least = least_gap(delay, window)
    gap = 2 * (delay + window) if division.gap is None else division.gap
    if gap < least:
        raise ConfigError(
            f"is {gap}: stimuli of one side were shown before the last response of the other",
            where="data.gap",
            fix=f"Set it to at least delay + window - 1, here {least}, or to auto.",
        )
    longest = samples // least_blocks(samples, division.folds, division.test_share)
    if division.by == "time" and least < longest <= gap:
        said = " (auto)" if division.gap is None else ""
        raise ConfigError(
            f"is {gap}{said} and leaves nothing of blocks of {longest}, the longest that {samples} samples give to "
            f"{division.folds} folds and a test split",
            where="data.gap",
            fix=f"Set it to at most {longest - 1}, or lower data.folds.",
        )
    return gap


def divided(division: Division, span: range, gap: int, subjects: Sequence[str]) -> dict[str, Part]:
    """Return the parts by the name of their split.

    Args:
        division: how samples are divided.
        span: times of all samples that can be used.
        gap: of `gap_between`.
        subjects: names of all subjects.

    Raises:
        ConfigError: there is no such fold, or nothing is left for a split.
    """
    if division.fold >= division.folds:
        raise ConfigError(
            f"is {division.fold}, but there are {division.folds} folds, from 0 on",
            where="data.fold",
            fix="Choose one of them, or raise data.folds.",
        )
    if division.by == "subject":
        return _by_subject(division, span, subjects)
    blocks = TimeBlocks(
        span.start, span.stop, division.block_length, gap, division.folds, division.test_share, division.seed
    )
    times = blocks.split(division.fold)
    for split, chosen in times.items():
        if len(chosen) == 0:
            raise ConfigError(
                f"leaves no sample for {split} of fold {division.fold}",
                where="data.block_length",
                fix="Set it to several times data.gap, or lower data.folds.",
            )
    return {split: Part(chosen, tuple(subjects)) for split, chosen in times.items()}


def _by_subject(division: Division, span: range, subjects: Sequence[str]) -> dict[str, Part]:
    try:
        sides = assign_sides(len(subjects), division.folds, division.test_share, division.seed)
    except ValueError as error:
        raise ConfigError(f"is too large: {error}", where="data.folds", fix="Lower it, or add subjects.") from None
    times = np.arange(span.start, span.stop)
    chosen = {
        "train": (sides != TEST) & (sides != division.fold),
        "val": sides == division.fold,
        "test": sides == TEST,
    }
    if not chosen["train"].any() or len(times) == 0:
        raise ConfigError(
            f"leaves nothing to train on of {len(subjects)} subjects and {len(times)} samples",
            where="data.folds",
            fix="Raise it to at least 2, with as many subjects and one more.",
        )
    return {
        split: Part(times, tuple(name for name, flag in zip(subjects, flags, strict=True) if flag))
        for split, flags in chosen.items()
    }
