"""A folder of arrays on one timeline as train, val and test, checked before any compute is spent."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.registry import nearest
from mltrain.data.data_files import DataFile
from mltrain.data.modalities.array_files import ArrayFile, open_arrays, read_array
from mltrain.data.modalities.description import DESCRIPTION, Description, read_description
from mltrain.data.modalities.division import Division, Part, divided, gap_between, refuse_too_few

__all__ = ["Recordings", "read_recordings"]

_NAME = re.compile(r"\w[\w.-]*")
_RESERVED = {"fmri", "bottleneck"}


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
    refuse_too_few(division, count, delay, window, said)
    span = range(window - 1, count - delay)
    gap = gap_between(division, len(span), delay, window)
    parts = divided(division, span, gap, subject_names)
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
