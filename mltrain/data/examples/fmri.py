"""A simulated fMRI experiment with a known latent: what people saw, heard and read, and what their voxels answered.

No part of it comes from a brain. A few smooth trajectories (the latent) drive everything:

- The stimuli are functions of the latent that a linear map cannot invert. A grating has a contrast that is a latent,
  and a phase drawn anew in each frame: the mean of every pixel stays what it was, only its energy tells (the case of
  the complex cells of Hubel and Wiel 1962). A tremolo of random phase does the same to a spectrogram. A text embedding
  is a random network of its latents. Brightness, and roughly the pitch of the sound, a linear map does find.
- A voxel mixes features of the latent, some of them products, folds them with a haemodynamic response (a difference of
  two gammas as in Glover 1999, with the usual shapes 6 and 16) and adds autocorrelated noise. Subjects share a part of
  the weights of their voxels.

Since the noise is known, so is its ceiling: the correlation that the response without noise would have.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import gamma
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import DataError

__all__ = ["FmriSimulation", "write", "write_fmri"]

Array = NDArray[np.float64]

_LATENTS = 8
_SIDE, _MELS, _FRAMES, _WORDS = 24, 16, 8, 32
_TR = 2.0
_DELAY = 1
# Of which latents the features of a region are made.
_REGIONS = ("video", "audio", "text", "all")


@dataclass(frozen=True)
class FmriSimulation:
    """An experiment.

    samples: length of the timeline, T.
    voxels: of each subject. Where they are equally many, the same number means the same place.
    smoothness: standard deviation of the kernel that smooths the latent, in samples.
    individuality: share of the variance of a voxel's weights that a subject has for itself.
    seed: of all that is drawn.
    """

    samples: int = 6000
    voxels: tuple[int, ...] = (120, 120, 120)
    smoothness: float = 1.5
    individuality: float = 0.25
    seed: int = 20240607

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return file name -> array.

        Returns:
            video (T, 3, 24, 24) uint8, audio (T, 16, 8) float16, text (T, 32) float32; of each subject its voxels
            (T, V) float32 and their noise ceiling (V,) float32; `truth/latent` (T, 8) float32.
        """
        draw = np.random.default_rng(self.seed)
        latent = _smooth_latent(draw, self.samples, self.smoothness)
        found: dict[str, NDArray[Any]] = {
            "video": _video(draw, latent),
            "audio": _audio(draw, latent),
            "text": _text(draw, latent),
            "truth/latent": latent.astype(np.float32),
        }
        common = np.random.default_rng([self.seed, 0])
        weights, shares = _region_weights(common, max(self.voxels)), common.uniform(0.1, 0.8, max(self.voxels))
        for number, count in enumerate(self.voxels, start=1):
            own = np.random.default_rng([self.seed, number])
            mixed = np.sqrt(1 - self.individuality) * weights + np.sqrt(self.individuality) * _region_weights(
                own, max(self.voxels)
            )
            responses, ceiling = _responses(own, _features(latent) @ mixed[:, :count], shares[:count])
            found[f"subject_{number:02d}"] = responses.astype(np.float32)
            found[f"subject_{number:02d}_ceiling"] = ceiling.astype(np.float32)
        return found

    def description(self) -> str:
        """Return the content of `dataset.yaml`."""
        subjects = ", ".join(f"subject_{number:02d}" for number in range(1, len(self.voxels) + 1))
        aligned = "true" if len(set(self.voxels)) == 1 else "false"
        return (
            "# Simulated by mltrain make-data fmri: no part of it comes from a brain.\n"
            f"tr: {_TR}  # seconds a sample\n"
            f"delay: {_DELAY}  # samples from a stimulus to the response\n"
            "modalities: [video, audio, text]\n"
            f"subjects: [{subjects}]\n"
            f"aligned_voxels: {aligned}  # the same number is the same place in all subjects\n"
        )


def write(output: Path) -> str:
    """Write the experiment with its default settings; returns what was written.

    Raises:
        DataError: a file of that name holds something else.
    """
    return write_fmri(output, FmriSimulation())


def write_fmri(output: Path, simulation: FmriSimulation) -> str:
    """Write an experiment into a folder; returns what was written.

    Raises:
        DataError: a file of that name holds something else.
    """
    contents = {f"{name}.npy": _npy(array) for name, array in simulation.arrays().items()}
    contents["dataset.yaml"] = simulation.description().encode()
    _refuse_others(output, contents)
    for name, content in contents.items():
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(content)
    return f"{simulation.samples} samples and {sum(simulation.voxels)} voxels in {output}"


def _refuse_others(output: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        if (output / name).exists() and (output / name).read_bytes() != content:
            raise DataError(
                "is there already and is another file", where=str(output / name), fix="Choose another --output."
            )


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _smooth_latent(draw: np.random.Generator, samples: int, smoothness: float) -> Array:
    """Return trajectories (T, K) of mean 0 and variance 1: white noise under a Gaussian kernel."""
    reach = int(4 * smoothness) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / smoothness) ** 2)
    noise = draw.standard_normal((samples + 2 * reach, _LATENTS))
    latent = np.stack([np.convolve(column, kernel, mode="valid") for column in noise.T], axis=1)
    return _standardized(latent)


def _video(draw: np.random.Generator, latent: Array) -> NDArray[np.uint8]:
    """Return frames: two gratings of random phase, the contrast of each by a latent, and brightness from the left."""
    samples = len(latent)
    y, x = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), indexing="ij")
    frames = np.full((samples, 3, _SIDE, _SIDE), 128.0)
    for number, (wave, colour) in enumerate(((x / 6, (1, 0.6, 0.2)), (y / 6, (0.2, 0.6, 1)))):
        phase = draw.uniform(0, 1, (samples, 1, 1))
        contrast = 34 * np.exp(0.55 * latent[:, number, None, None] - 0.3)
        grating = contrast * np.sin(2 * np.pi * (wave[None] + phase))
        frames += grating[:, None] * np.asarray(colour)[None, :, None, None]
    frames += 20 * latent[:, 2, None, None, None] * (x / _SIDE - 0.5)
    frames += draw.normal(0, 12, frames.shape)
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def _audio(draw: np.random.Generator, latent: Array) -> NDArray[np.float16]:
    """Return log mel spectrograms: a tone whose pitch and tremolo are latents, of random gain and phase."""
    samples = len(latent)
    mel, time = np.arange(_MELS)[None, :, None], np.arange(_FRAMES)[None, None, :]
    pitch = 7.5 + 3.5 * np.tanh(0.7 * latent[:, 3, None, None])
    tone = np.exp(-0.5 * ((mel - pitch) / 1.5) ** 2)
    depth = 1 / (1 + np.exp(-1.5 * latent[:, 4, None, None]))
    tremolo = depth * np.sin(2 * np.pi * (time / 4 + draw.uniform(0, 1, (samples, 1, 1))))
    gain = np.exp(0.4 * draw.standard_normal((samples, 1, 1)))
    energy = gain * tone * (1 + 0.9 * tremolo) + 0.05
    return np.asarray(np.log(energy) + draw.normal(0, 0.15, energy.shape), dtype=np.float16)


def _text(draw: np.random.Generator, latent: Array) -> NDArray[np.float32]:
    """Return embeddings: a random network of three latents, with noise."""
    first, second = draw.normal(0, 1.2, (3, 24)), draw.normal(0, 24**-0.5, (24, _WORDS))
    embedding = np.tanh(latent[:, 5:8] @ first + draw.normal(0, 0.5, 24)) @ second
    return np.asarray(embedding + draw.normal(0, 0.15, embedding.shape), dtype=np.float32)


def _features(latent: Array) -> Array:
    """Return what voxels mix, (T, 12), each of mean 0 and variance 1: three a modality, and three across them."""
    z = latent.T
    columns = [
        z[0], z[1], z[2],
        z[3], z[4], z[3] * z[4],
        z[5] * z[6], np.abs(z[7]), z[5],
        z[0] * z[3], z[1] * z[6], z[4] * z[7],
    ]  # fmt: skip
    return _standardized(np.stack(columns, axis=1))


def _region_weights(draw: np.random.Generator, voxels: int) -> Array:
    """Return weights (12, V): a voxel belongs to a modality, or to all, and mixes the features of that."""
    weights = np.zeros((12, voxels))
    for voxel in range(voxels):
        region = voxel % len(_REGIONS)
        chosen = slice(3 * region, 3 * region + 3) if region < 3 else slice(0, 12)
        weights[chosen, voxel] = draw.standard_normal(12)[chosen]
    return np.asarray(weights / np.linalg.norm(weights, axis=0))


def _responses(draw: np.random.Generator, neural: Array, shares: Array) -> tuple[Array, Array]:
    """Return measured voxels (T, V), and the correlation of each with its response without noise.

    Args:
        draw: gives the noise.
        neural: what drives the voxels, (T, V).
        shares: of the variance that is no noise, (V,).
    """
    kernel = _haemodynamic_response()
    folded = np.stack([np.convolve(column, kernel)[: len(neural)] for column in neural.T], axis=1)
    signal = _standardized(folded)
    noise = draw.standard_normal(signal.shape)
    for time in range(1, len(noise)):
        noise[time] += 0.3 * noise[time - 1]
    measured = np.sqrt(shares) * signal + np.sqrt(1 - shares) * _standardized(noise)
    ceiling = (_standardized(measured) * signal).mean(axis=0)
    return measured, ceiling


def _haemodynamic_response() -> Array:
    """Return the response to a short event, sampled every `_TR` seconds over 24 s, of sum 1."""
    seconds = np.arange(0, 24, _TR)
    peak, undershoot = (seconds ** (shape - 1) * np.exp(-seconds) / gamma(shape) for shape in (6, 16))
    response = peak - undershoot / 6
    return np.asarray(response / response.sum())


def _standardized(values: Array) -> Array:
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0))
