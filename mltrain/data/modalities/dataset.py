"""Windows of stimuli with the responses to them, as a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.core.seeding import SampleGenerator
from mltrain.data.modalities.division import Part
from mltrain.data.modalities.recordings import Recordings

__all__ = ["RecordingDataset", "window_of"]


class RecordingDataset:
    """One sample for each time of a split: what was shown up to then, and what all subjects of the split answered.

    Args:
        recordings: the arrays.
        part: the split.
    """

    def __init__(self, recordings: Recordings, part: Part) -> None:
        self._stimuli = dict(recordings.stimuli)
        self._responses = {name: recordings.responses[name] for name in part.subjects}
        self._times, self._subjects = part.times, part.subjects
        self._window, self._delay = recordings.window, recordings.delay
        self._prefix = "" if part.subjects == tuple(recordings.responses) else "+".join(part.subjects) + "/"

    def __len__(self) -> int:
        return len(self._times)

    def sample_id(self, index: int) -> str:
        """Return the time of the newest stimulus, with the subjects where they are not all of them."""
        return f"{self._prefix}{self._times[index]}"

    def load(self, index: int, generator: SampleGenerator | None) -> dict[str, torch.Tensor]:
        """Return modality -> (window, ...) in the type of its file, and "fmri", float32 (V,), the subjects in a row.

        Raises:
            DataError: an array is not what it was when the run began.
        """
        for array in (*self._stimuli.values(), *self._responses.values()):
            array.refuse_changed()
        time = int(self._times[index])
        item = {
            name: torch.from_numpy(window_of(array.values, time, self._window)) for name, array in self._stimuli.items()
        }
        answers = [array.values[time + self._delay] for array in self._responses.values()]
        item["fmri"] = torch.from_numpy(np.concatenate(answers).astype(np.float32))
        return item


def window_of(values: NDArray[Any], time: int, window: int) -> NDArray[Any]:
    """Return the samples of a window that ends with `time`, copied; integers of more than 8 bits as float32."""
    found = np.array(values[time - window + 1 : time + 1])
    return found if found.dtype in (np.uint8, np.float16, np.float32) else found.astype(np.float32)
