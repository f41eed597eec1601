"""Predicting with a packed multimodal autoencoder: from stretches of stimuli to the bottleneck and voxels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.core.errors import DataError
from mltrain.data.modalities.array_files import first_flaw
from mltrain.data.modalities.dataset import window_of
from mltrain.models.multimodal_models import MultimodalAutoencoder
from mltrain.tasks.multimodal_pipeline import RecordingPipeline

__all__ = ["RecordingPredictor", "rows_of"]

_MOST_AT_ONCE = 256


class RecordingPredictor:
    """Predicts the bottleneck and the voxels of each readout, in the units of the data.

    Args:
        model: predictions are made with whatever weights it holds, on the device it is on.
        pipeline: what the model was trained with.
    """

    def __init__(self, model: MultimodalAutoencoder, pipeline: RecordingPipeline) -> None:
        self._model, self._pipeline = model, pipeline

    def __call__(self, stimuli: Any) -> list[dict[str, Any]]:
        """Return one row for each time that has a whole window behind it.

        Args:
            stimuli: modality -> array (T, ...), as in the files of a data set: consecutive samples of one timeline.
                With T equal to the window there is one row, with T beyond it T - window + 1.

        Returns:
            Rows {"time": number of the newest stimulus, "response_time": where its response is, "bottleneck": Z
            numbers, "fmri": {readout: V numbers}}.

        Raises:
            DataError: a modality is missing, is not of the shape that the model was trained with, or holds what is no
                finite number.
        """
        arrays = self._checked(stimuli)
        window = self._pipeline.window
        times = range(window - 1, len(next(iter(arrays.values()))))
        rows: list[dict[str, Any]] = []
        for start in range(0, len(times), _MOST_AT_ONCE):
            some = times[start : start + _MOST_AT_ONCE]
            batch = {
                name: torch.from_numpy(np.stack([window_of(values, time, window) for time in some]))
                for name, values in arrays.items()
            }
            found = rows_of(self._outputs(batch), self._pipeline)
            rows += [
                {"time": time, "response_time": time + self._pipeline.delay, **row}
                for time, row in zip(some, found, strict=True)
            ]
        return rows

    def _checked(self, stimuli: Any) -> dict[str, NDArray[Any]]:
        expected = self._pipeline.shapes
        if not isinstance(stimuli, Mapping) or set(stimuli) != set(expected):
            given = ", ".join(map(str, stimuli)) if isinstance(stimuli, Mapping) else f"a {type(stimuli).__name__}"
            raise DataError(
                f"cannot predict from {given or 'nothing'}",
                where="predict",
                fix=f"Give a dict of arrays: {', '.join(expected)}.",
            )
        arrays = {name: _numbers(name, stimuli[name]) for name in expected}
        length = next(iter(arrays.values())).shape[:1]
        for name, values in arrays.items():
            if values.shape != (*length, *expected[name]) or len(values) < self._pipeline.window:
                raise DataError(
                    f"{name} has the shape {values.shape}",
                    where="predict",
                    fix=f"Give (time, {', '.join(map(str, expected[name]))}) with at least {self._pipeline.window} "
                    "times, as many for each modality.",
                )
            if flaw := first_flaw(values):
                raise DataError(f"{name} {flaw}", where="predict", fix="Interpolate or cut such samples.")
        return arrays

    @torch.inference_mode()
    def _outputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = next(self._model.parameters()).device
        on_device = {name: values.to(device) for name, values in batch.items()}
        outputs: dict[str, torch.Tensor] = self._model(self._pipeline.standard_stimuli(on_device))
        return outputs


def _numbers(name: str, given: Any) -> NDArray[Any]:
    fix = "Give an array of real numbers."
    try:
        values = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} is no array ({error})", where="predict", fix=fix) from None
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name} holds {values.dtype}", where="predict", fix=fix)
    return values


def rows_of(outputs: Mapping[str, torch.Tensor], pipeline: RecordingPipeline) -> list[dict[str, Any]]:
    """Return one row an example: the bottleneck, and the voxels of each readout in the units of the data."""
    voxels = torch.split(outputs["fmri"][:, : sum(pipeline.voxels)].float(), pipeline.voxels, 1)
    readouts = {
        name: readout.invert(values).tolist()
        for (name, readout), values in zip(pipeline.readouts.items(), voxels, strict=True)
    }
    return [
        {"bottleneck": bottleneck, "fmri": {name: values[number] for name, values in readouts.items()}}
        for number, bottleneck in enumerate(outputs["bottleneck"].float().tolist())
    ]
