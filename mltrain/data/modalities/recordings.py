"""A folder of arrays on one timeline as train, val and test, checked before any compute is spent."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.registry import nearest
from mltrain.data.data_files import DataFile
from mltrain.data.modalities.array_files import ArrayFile, open_arrays, read_array
from mltrain.data.modalities.blocks import TEST, TimeBlocks, assign_sides, least_blocks, least_gap
from mltrain.data.modalities.description import DESCRIPTION, Description, read_description

__all__ = ["Division", "Part", "Recordings", "read_recordings"]

_NAME = re.compile(r"\w[\w.-]*")
_RESERVED = {"fmri", "bottleneck"}


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


@dataclass(frozen=True)
class Recordings:
    """Stimuli and responses, divided.

    folder: where they are.
    stimuli, responses: name -> array, of the chosen modalities and subjects.
    description: what the folder says of itself.
    delay: samples from the newest stimulus of a window to the response.
    window: samples of stimuli that belong to a response.
    gap: samples left out where the side changes.
    parts: "train", "val" and "test".
    ceilings: subject -> noise ceiling of its voxels, (V,), of those that have one.
    """

    folder: Path
    stimuli: Mapping[str, ArrayFile]
    responses: Mapping[str, ArrayFile]
    description: Description
    delay: int
    window: int
    gap: int
    parts: Mapping[str, Part]
    ceilings: Mapping[str, NDArray[np.float64]]

    def voxels(self) -> dict[str, int]:
        """Return subject -> number of voxels."""
        return {name: array.shape[0] for name, array in self.responses.items()}

    def facts(self) -> dict[str, Any]:
        """Return the digest of all arrays and of how they are divided, with counts, subjects and times."""
        arrays = {name: array.digest for name, array in {**self.stimuli, **self.responses}.items()}
        division = {
            split: {"subjects": part.subjects, "times": hashlib.sha256(part.times.tobytes()).hexdigest()}
            for split, part in self.parts.items()
        }
        identity = {"arrays": arrays, "parts": division, "delay": self.delay, "window": self.window}
        return {
            "digest": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
            "counts": {split: len(part.times) for split, part in self.parts.items()},
            "arrays": arrays,
            "voxels": self.voxels(),
            "subjects": {split: list(part.subjects) for split, part in self.parts.items()},
            "tr": self.description.tr,
            "delay": self.delay,
            "window": self.window,
            "gap": self.gap,
        }

    def files(self) -> Iterator[DataFile]:
        """Yield each array; they belong to all splits, or to that of their subject."""
        for name, array in self.stimuli.items():
            yield DataFile("all splits", array.digest, f"{name}.npy")
        for name, array in self.responses.items():
            own = [split for split, part in self.parts.items() if name in part.subjects]
            yield DataFile(own[0] if len(own) == 1 else "all splits", array.digest, f"{name}.npy")


def read_recordings(
    folder: Path,
    division: Division,
    *,
    modalities: Sequence[str] | None,
    subjects: Sequence[str] | None,
    delay: int | None,
    window: int,
) -> Recordings:
    """Return the recordings of a folder.

    Args:
        folder: holds `dataset.yaml` and an array for each name in it.
        division: how they are divided.
        modalities, subjects: those to use; None: all that the folder has.
        delay: None: that of the folder.
        window: samples of stimuli that belong to a response.

    Raises:
        ConfigError: keys that do not suit the data.
        DataError: the data cannot be used.
    """
    description = read_description(folder)
    stimulus_names = _chosen(modalities, description.modalities, "data.modalities")
    subject_names = _chosen(subjects, description.subjects, "data.subjects")
    _refuse_names([*stimulus_names, *subject_names], folder)
    arrays = open_arrays(folder, [*stimulus_names, *subject_names])
    stimuli = {name: arrays[name] for name in stimulus_names}
    responses = {name: arrays[name] for name in subject_names}
    _refuse_shapes(stimuli, responses)
    said = "" if delay is not None else f", as {DESCRIPTION} says"
    delay = description.delay if delay is None else delay
    count = len(next(iter(arrays.values())))
    _refuse_long(division, count, delay, window, said)
    span = range(window - 1, count - delay)
    gap = _gap(division, len(span), delay, window)
    parts = _parts(division, span, gap, subject_names)
    ceilings = _ceilings(folder, responses)
    return Recordings(folder, stimuli, responses, description, delay, window, gap, parts, ceilings)


def _chosen(wanted: Sequence[str] | None, known: Sequence[str], key: str) -> list[str]:
    """Return the names that are wanted, in the order of those that are known."""
    for name in wanted or ():
        if name not in known:
            close = nearest(name, list(known))
            hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(known)}."
            raise ConfigError(f"{name!r} is not in {DESCRIPTION}", where=key, fix=hint)
    chosen = [name for name in known if wanted is None or name in wanted]
    if not chosen:
        raise ConfigError("names nothing", where=key, fix=f"Name some of {', '.join(known)}.")
    return chosen


def _refuse_names(names: Sequence[str], folder: Path) -> None:
    file = str(folder / DESCRIPTION)
    for number, name in enumerate(names):
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise DataError(
                f"{name!r} cannot be the name of an array", where=file, fix="Use letters, digits, _, - and dots."
            )
        if name in names[:number]:
            raise DataError(f"{name!r} stands there twice", where=file, fix="Give each array its own name.")


def _refuse_shapes(stimuli: Mapping[str, ArrayFile], responses: Mapping[str, ArrayFile]) -> None:
    for array in stimuli.values():
        if array.values.ndim > 4:
            raise DataError(
                f"has the shape {array.values.shape}",
                where=str(array.path),
                fix="A modality is (time, features), (time, height, width) or (time, channels, height, width).",
            )
    for array in responses.values():
        if array.values.ndim != 2:
            raise DataError(
                f"has the shape {array.values.shape}", where=str(array.path), fix="Responses are (time, voxels)."
            )
    arrays = [*stimuli.values(), *responses.values()]
    for array in arrays:
        if len(array) != len(arrays[0]):
            raise DataError(
                f"has {len(array)} samples, {arrays[0].path.name} has {len(arrays[0])}",
                where=str(array.path),
                fix="All arrays must have one sample for each time, on one timeline.",
            )


def _ceilings(folder: Path, responses: Mapping[str, ArrayFile]) -> dict[str, NDArray[np.float64]]:
    """Return the noise ceilings that the folder has: of a subject `<subject>_ceiling.npy`, one number a voxel."""
    found = {}
    for name, array in responses.items():
        file = folder / f"{name}_ceiling.npy"
        if not file.is_file():
            continue
        ceiling = read_array(file)
        if ceiling.shape != array.shape or ceiling.dtype.kind != "f" or not np.isfinite(ceiling).all():
            raise DataError(
                f"holds {ceiling.dtype} of shape {ceiling.shape}",
                where=str(file),
                fix=f"It must be one finite number for each of the {array.shape[0]} voxels.",
            )
        found[name] = ceiling.astype(np.float64)
    return found


def _refuse_long(division: Division, count: int, delay: int, window: int, said: str) -> None:
    """Refuse a delay and a window that leave no sample, or too few for sides that are so far apart.

    Args:
        division: how samples are divided.
        count: samples of the arrays.
        delay, window: see `Recordings`.
        said: who says the delay, for the message.
    """
    blocks, divided = least_blocks(count, division.folds, division.test_share), division.by == "time"
    # Blocks must be longer than `least_gap`: (count - least) // blocks > least, solved for delay + window.
    most = (count - blocks) // (blocks + 1) + 1 if divided and blocks <= count else count
    if delay + window <= most:
        return
    where, what = ("delay", f"is {delay}{said}") if delay >= window else ("window", f"is {window}")
    left = max(0, count + 1 - delay - window)
    raise ConfigError(
        f"{what}, which leaves {left} of {count} samples"
        + (f", too few for {division.folds} folds and a test split with such a gap between them" if divided else ""),
        where=f"data.{where}",
        fix=f"Lower data.delay + data.window to at most {most}{', or lower data.folds' if divided else ''}.",
    )


def _gap(division: Division, samples: int, delay: int, window: int) -> int:
    """Return the samples that are left out where the side changes, of those that can be used."""
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


def _parts(division: Division, span: range, gap: int, subjects: Sequence[str]) -> dict[str, Part]:
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
