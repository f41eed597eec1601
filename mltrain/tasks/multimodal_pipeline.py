"""What stands between arrays and the model: standardization found on the training split, and whose voxels are whose."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.data.modalities.array_files import ArrayFile
from mltrain.data.modalities.recordings import Recordings
from mltrain.data.modalities.standardization import Standardization, fit_standardization

__all__ = ["RecordingPipeline"]


@dataclass(frozen=True)
class RecordingPipeline:
    """The same in training, in evaluation and in a packed model.

    Attributes:
        window, delay: samples of stimuli behind a response, and from the newest of them to it.
        shapes: modality -> shape of one sample.
        stimuli: modality -> its standardization.
        readouts: readout -> standardization of its voxels: a subject each, or "shared" for all of them.
    """

    window: int
    delay: int
    shapes: Mapping[str, tuple[int, ...]]
    stimuli: Mapping[str, Standardization]
    readouts: Mapping[str, Standardization]

    @classmethod
    def fit(cls, recordings: Recordings, *, shared: bool, standardize: bool = True) -> RecordingPipeline:
        """Find all means and deviations on the training split.

        Args:
            recordings: the data.
            shared: one readout for all subjects, fitted on those of the training split together.
            standardize: False leaves all arrays as they are.
        """

        def fitted(arrays: Sequence[ArrayFile], times: NDArray[np.int64]) -> Standardization:
            return fit_standardization(arrays, times) if standardize else Standardization.none(arrays[0].shape[0])

        train = recordings.parts["train"]
        answered = train.times + recordings.delay
        responses = [recordings.responses[name] for name in train.subjects]
        stimuli = {name: fitted([array], train.times) for name, array in recordings.stimuli.items()}
        if shared:
            readouts = {"shared": fitted(responses, answered)}
        else:
            readouts = {name: fitted([array], answered) for name, array in zip(train.subjects, responses, strict=True)}
        shapes = {name: array.shape for name, array in recordings.stimuli.items()}
        return cls(recordings.window, recordings.delay, shapes, stimuli, readouts)

    @property
    def voxels(self) -> list[int]:
        """Voxels of each readout."""
        return [len(readout.mean) for readout in self.readouts.values()]

    def voxels_in(self, measured: int) -> list[int]:
        """Return the voxels of each subject among so many in a row: of a shared readout all have as many."""
        return self.voxels * (measured // sum(self.voxels))

    def standard_stimuli(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return modality -> standardized samples (B, window, ...)."""
        return {name: standardization.apply(batch[name]) for name, standardization in self.stimuli.items()}

    def standard_fmri(self, measured: torch.Tensor) -> torch.Tensor:
        """Return standardized voxels (B, sum of voxels), the subjects in a row."""
        rows = measured.reshape(len(measured), -1, sum(self.voxels))
        return _joined(self.readouts.values()).apply(rows).flatten(1)

    def digest(self) -> str:
        """Return what identifies it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` takes."""
        return {
            "window": self.window,
            "delay": self.delay,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "stimuli": {name: standardization.to_json() for name, standardization in self.stimuli.items()},
            "readouts": {name: standardization.to_json() for name, standardization in self.readouts.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RecordingPipeline:
        """Return the pipeline that `to_json` described."""
        return cls(
            value["window"],
            value["delay"],
            {name: tuple(shape) for name, shape in value["shapes"].items()},
            {name: Standardization.from_json(inner) for name, inner in value["stimuli"].items()},
            {name: Standardization.from_json(inner) for name, inner in value["readouts"].items()},
        )


def _joined(parts: Iterable[Standardization]) -> Standardization:
    several = list(parts)
    mean, std = (np.concatenate([getattr(part, name) for part in several]) for name in ("mean", "std"))
    return Standardization(mean, std, np.empty(0, dtype=np.int64))
