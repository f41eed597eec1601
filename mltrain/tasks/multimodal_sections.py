"""The sections `data` and `model` of the multimodal autoencoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mltrain.config.section import DataSection, ModelSection

__all__ = ["ModalityDataSection", "ModalityModelSection"]


class ModalityDataSection(DataSection):
    """Stimuli and responses, one array each, on one timeline."""

    modalities: list[str] | None = Field(None, description="Stimuli to use. Default: all of `dataset.yaml`.")
    subjects: list[str] | None = Field(None, description="Subjects to use. Default: all of `dataset.yaml`.")
    delay: int | None = Field(
        None, ge=0, description="Samples from the newest stimulus to the response. Default: that of `dataset.yaml`."
    )
    window: int = Field(1, ge=1, le=1024, description="Samples of stimuli, up to the newest, behind one response.")
    standardize: bool = Field(
        True, description="By means and deviations of the training split. false: arrays are taken as they are."
    )
    split_by: Literal["time", "subject"] = Field(
        "time", description="What goes to one side as a whole: blocks of time, or subjects (with a shared readout)."
    )
    block_length: int = Field(100, ge=1, description="Samples of a block of time.")
    gap: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="Samples left out where the side changes. auto: 2 x (delay + window)."
    )
    folds: int = Field(5, ge=1, description="Parts that are validated in turn (`data.fold`).")
    test_share: float = Field(0.2, gt=0.0, lt=1.0, description="Share of blocks, or of subjects, in the test split.")
    split_seed: int = Field(42, ge=0, lt=2**63, description="Decides alone which block or subject goes where.")


class ModalityModelSection(ModelSection):
    """An autoencoder of several modalities with a readout of voxels."""

    architecture: Literal["patch_autoencoder"] = Field("patch_autoencoder", description="Name of the model.")
    readout: Literal["subject", "shared"] = Field(
        "subject", description="subject: each has its own linear readout; shared: one for all (aligned voxels)."
    )
    bottleneck: int = Field(64, ge=1, description="Size of the bottleneck.")
    features: int = Field(64, ge=1, description="Features of each sample of each modality.")
    width: int = Field(16, ge=1, description="Channels of the first convolution over pictures; the second has twice.")
    patch: int = Field(4, ge=1, description="Side of the patches that pictures are cut into, in pixels.")
    hidden: int = Field(128, ge=1, description="Width of hidden layers.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of features dropped before the bottleneck.")
    fmri_loss: Literal["mse", "mae", "correlation"] = Field(
        "mse", description="Of predicted and measured voxels of one sample; correlation: 1 - r over a subject's voxels."
    )
    fmri_weight: float = Field(1.0, ge=0.0, description="Weight of it in the loss.")
    reconstruction_weights: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        default_factory=dict, description="Weight of each modality's reconstruction in the loss. Default: 1 each."
    )
