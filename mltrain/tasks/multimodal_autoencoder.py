"""`multimodal_autoencoder`: stimuli of several modalities to a bottleneck that predicts fMRI voxels, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.logging import log
from mltrain.core.registry import nearest
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.modalities.dataset import RecordingDataset
from mltrain.data.modalities.division import Division
from mltrain.data.modalities.recordings import Recordings, read_recordings
from mltrain.models.multimodal_models import MultimodalAutoencoder
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.multimodal_losses import FMRI_LOSSES, reconstruction_error, subject_means
from mltrain.tasks.multimodal_metrics import RecordingMetrics
from mltrain.tasks.multimodal_pipeline import RecordingPipeline
from mltrain.tasks.multimodal_prediction import RecordingPredictor, rows_of
from mltrain.tasks.multimodal_report import SubjectVoxels, write_voxel_report
from mltrain.tasks.multimodal_sections import ModalityDataSection, ModalityModelSection

__all__ = ["MultimodalTask"]

_KEPT = "standardization"
_SIZES = ("bottleneck", "features", "width", "patch", "hidden", "dropout")


@register_task("multimodal_autoencoder")
class MultimodalTask(Task):
    """Reconstruction of each modality and the fit of voxels, weighted: see `data.modalities` for the data."""

    data_section = ModalityDataSection
    model_section = ModalityModelSection
    headline: ClassVar[tuple[str, str]] = ("val/voxel_correlation", "max")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, ModalityDataSection)
        assert isinstance(config.model, ModalityModelSection)
        self._data, self._model = config.data, config.model
        self._refuse_contradictions()
        self.recordings = _recordings(config.data)
        self._weights = self._reconstruction_weights()
        self._refuse_unaligned()
        self._refuse_large_patch()
        self._pipeline: RecordingPipeline | None = None

    @property
    def pipeline(self) -> RecordingPipeline:
        """Standardization as found on the training split when it is first asked for, or as the run has kept it."""
        if self._pipeline is None:
            self._pipeline = RecordingPipeline.fit(
                self.recordings, shared=self._model.readout == "shared", standardize=self._data.standardize
            )
            self._tell_constant_voxels(self._pipeline)
        return self._pipeline

    def fitted(self) -> dict[str, Any]:
        """Return the pipeline, where something in it comes from the training split."""
        return {_KEPT: self.pipeline.to_json()} if self._data.standardize else {}

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:
        """Use the pipeline that the run has kept."""
        if _KEPT in fitted:
            self._pipeline = RecordingPipeline.from_json(fitted[_KEPT])

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits."""
        return {split: RecordingDataset(self.recordings, part) for split, part in self.recordings.parts.items()}

    def collate(self, items: list[Any]) -> Batch:
        """Return modality -> (B, window, ...) in the type of its file, and "fmri", float32 (B, voxels)."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def build_model(self) -> nn.Module:
        """Return the configured autoencoder."""
        return _built(self.pipeline, {name: getattr(self._model, name) for name in _SIZES})

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the weighted sum of an example's losses, all of them as parts, and outputs with their targets.

        Parts are `fmri`, the loss of voxels, and `reconstruction_<modality>`, the mean squared error of what is
        standardized.
        """
        stimuli, measured = self.pipeline.standard_stimuli(batch), self.pipeline.standard_fmri(batch["fmri"])
        found = model(stimuli)
        voxels = self.pipeline.voxels_in(measured.shape[1])
        # A shared readout predicts the same of every subject.
        predicted = found["fmri"].repeat(1, measured.shape[1] // found["fmri"].shape[1])
        fmri = subject_means(FMRI_LOSSES[self._model.fmri_loss], predicted, measured, voxels)
        parts = {"fmri": fmri}
        values = self._model.fmri_weight * fmri
        for name, shown in stimuli.items():
            parts[f"reconstruction_{name}"] = error = reconstruction_error(found[name], shown)
            values = values + self._weights[name] * error
        targets = {f"{name}_target": shown for name, shown in stimuli.items()}
        return Losses(values, {**found, "fmri": predicted, "fmri_target": measured, **targets}, parts)

    def metrics(self) -> Metrics:
        """Return correlations, errors and explained shares."""
        return RecordingMetrics(list(self.pipeline.stimuli))

    def metric_names(self) -> tuple[str, ...]:
        """Return the loss, its parts and the metrics."""
        parts = [f"reconstruction_{name}" for name in self.pipeline.stimuli]
        return ("loss", "fmri", *parts, *self.metrics().names)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the bottleneck and the voxels of each example."""
        return rows_of(outputs, self.pipeline)

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all arrays and of how they are divided, counts, subjects and times."""
        fitted = {"fitted": {_KEPT: self.pipeline.digest()}} if self._data.standardize else {}
        return {**self.recordings.facts(), **fitted}

    def data_files(self) -> Iterable[DataFile]:
        """Give the arrays."""
        return self.recordings.files()

    def package(self) -> dict[str, Any]:
        """Return the sizes of the model and the pipeline."""
        sizes = {name: getattr(self._model, name) for name in _SIZES}
        return {"architecture": self._model.architecture, "sizes": sizes, "pipeline": self.pipeline.to_json()}

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (modality -> array) -> rows of predictions."""
        pipeline = RecordingPipeline.from_json(package["pipeline"])
        model = _built(pipeline, package["sizes"])
        return model, RecordingPredictor(model, pipeline)

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write figures of each subject's voxels, and their histogram."""
        assert isinstance(metrics, RecordingMetrics)
        correlation = metrics.correlation()
        subjects = self.recordings.parts[split].subjects
        borders = np.cumsum([self.recordings.voxels()[name] for name in subjects])[:-1]
        voxels = [
            SubjectVoxels(name, found, self.recordings.ceilings.get(name))
            for name, found in zip(subjects, np.split(correlation, borders), strict=True)
        ]
        write_voxel_report(split, voxels, reports)

    def _refuse_contradictions(self) -> None:
        if self._data.splits_dir is not None:
            raise ConfigError(
                "has no effect here", where="data.splits_dir", fix="Leave it out; data.split_seed divides the data."
            )
        keys = [name for name in ModalityModelSection.model_fields if name != "options"]
        for name in self._model.options:
            close = nearest(name, keys)
            raise ConfigError(
                "has no effect here: the keys of this model stand in model itself",
                where=f"model.options.{name}",
                fix=f"Set model.{close} instead." if close else "Leave it out.",
            )
        if self._data.split_by == "subject" and self._model.readout == "subject":
            raise ConfigError(
                "a readout of each subject's own says nothing of subjects that it was not trained on",
                where="model.readout",
                fix="Set it to shared, or data.split_by to time.",
            )

    def _refuse_unaligned(self) -> None:
        if self._model.readout != "shared":
            return
        voxels = self.recordings.voxels()
        if not self.recordings.description.aligned_voxels or len(set(voxels.values())) > 1:
            sizes = ", ".join(f"{name} {count}" for name, count in voxels.items())
            raise DataError(
                f"a shared readout needs voxels that are the same places in all subjects (voxels: {sizes})",
                where=str(self.recordings.folder / "dataset.yaml"),
                fix="Say aligned_voxels: true where they are, or set model.readout to subject.",
            )

    def _refuse_large_patch(self) -> None:
        pictures = {name: array.shape[-2:] for name, array in self.recordings.stimuli.items() if len(array.shape) > 1}
        name = min(pictures, key=lambda picture: max(pictures[picture]), default=None)
        if name is not None and self._model.patch > max(pictures[name]):
            height, width = pictures[name]
            raise ConfigError(
                f"is {self._model.patch}, but {name} has pictures of {height} x {width}",
                where="model.patch",
                fix=f"Set it to at most {max(height, width)}.",
            )

    def _reconstruction_weights(self) -> dict[str, float]:
        names = list(self.recordings.stimuli)
        for name in self._model.reconstruction_weights:
            if name not in names:
                close = nearest(name, names)
                hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(names)}."
                raise ConfigError(
                    f"there is no modality {name!r}", where=f"model.reconstruction_weights.{name}", fix=hint
                )
        weights = {name: self._model.reconstruction_weights.get(name, 1.0) for name in names}
        if self._model.fmri_weight == 0 and not any(weights.values()):
            raise ConfigError(
                "all weights of the loss are 0", where="model.fmri_weight", fix="Give one of them a value above 0."
            )
        return weights

    def _tell_constant_voxels(self, pipeline: RecordingPipeline) -> None:
        for name, readout in pipeline.readouts.items():
            constant, total = len(readout.constant), len(readout.mean)
            if constant == total:
                raise DataError(
                    f"no voxel of {name} varies in the training split",
                    where=str(self.recordings.folder),
                    fix="Check the array, or leave the subject out with data.subjects.",
                )
            if constant:
                log.warning(
                    "%d of %d voxels of %s do not vary in the training split, such as number %d: they say nothing.",
                    constant, total, name, readout.constant[0],
                )  # fmt: skip


def _recordings(data: ModalityDataSection) -> Recordings:
    division = Division(
        data.split_by,
        data.fold,
        data.folds,
        data.test_share,
        data.split_seed,
        data.block_length,
        None if data.gap == "auto" else data.gap,
    )
    return read_recordings(
        Path(data.data_dir),
        division,
        modalities=data.modalities,
        subjects=data.subjects,
        delay=data.delay,
        window=data.window,
    )


def _built(pipeline: RecordingPipeline, sizes: Mapping[str, Any]) -> MultimodalAutoencoder:
    return MultimodalAutoencoder(pipeline.shapes, pipeline.window, pipeline.voxels, **sizes)
