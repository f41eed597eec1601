"""The simulated experiment: the same each time, with the ceilings it says, and not to be had by a linear map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mltrain.core.errors import DataError
from mltrain.data.examples.fmri import FmriSimulation, write_fmri
from mltrain.data.modalities.description import read_description


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    return FmriSimulation(samples=1500, voxels=(24, 24)).arrays()


def linear_r2(features: np.ndarray, target: np.ndarray) -> float:
    """Return R^2 of least squares on the second half, fitted on the first."""
    design = np.column_stack([features.reshape(len(features), -1), np.ones(len(features))]).astype(np.float64)
    half = len(design) // 2
    weights = np.linalg.lstsq(design[:half], target[:half], rcond=None)[0]
    return float(1 - (design[half:] @ weights - target[half:]).var() / target[half:].var())


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    simulation = FmriSimulation(samples=60, voxels=(3, 4))
    told = write_fmri(tmp_path / "one", simulation)
    assert told == f"60 samples and 7 voxels in {tmp_path / 'one'}"
    write_fmri(tmp_path / "one", simulation)
    write_fmri(tmp_path / "other", simulation)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 9
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "other" / f).read_bytes() for f in files)
    with pytest.raises(DataError, match="is there already and is another file"):
        write_fmri(tmp_path / "one", FmriSimulation(samples=60, voxels=(3, 4), seed=1))


def test_the_description_says_whether_voxels_are_aligned(tmp_path: Path) -> None:
    for number, voxels in enumerate([(3, 3), (3, 4)]):
        write_fmri(tmp_path / str(number), FmriSimulation(samples=60, voxels=voxels))
        assert read_description(tmp_path / str(number)).aligned_voxels == (voxels == (3, 3))


def test_only_the_energy_of_a_picture_tells_its_contrast(arrays: dict[str, Any]) -> None:
    """A linear map of the pixels, and the energy that a quadrature pair of filters sees of the same ones."""
    video, contrast = arrays["video"].astype(np.float64), arrays["truth/latent"][:, 0]
    small = video.reshape(len(video), 3, 8, 3, 8, 3).mean(axis=(3, 5))
    x = np.arange(24) / 6
    profile = (video[:, 0] - 128).mean(axis=1)
    pair = [profile @ np.sin(2 * np.pi * x), profile @ np.cos(2 * np.pi * x)]
    assert linear_r2(small, contrast) < 0.05
    assert linear_r2(np.log(np.hypot(*pair))[:, None], contrast) > 0.9


def test_products_of_latents_are_not_linear_in_the_text(arrays: dict[str, Any]) -> None:
    latent = arrays["truth/latent"]
    assert linear_r2(arrays["text"], latent[:, 5] * latent[:, 6]) < 0.3
    assert linear_r2(arrays["text"], latent[:, 5]) > 0.8


def test_the_ceiling_is_what_the_noise_leaves(arrays: dict[str, Any]) -> None:
    """The same experiment with other noise has the same responses: two measurements agree to the ceiling's square."""
    ceiling = arrays["subject_01_ceiling"]
    assert ceiling.shape == (24,)
    assert 0.25 < ceiling.min() < ceiling.max() < 0.95
    voxels = arrays["subject_01"]
    np.testing.assert_allclose(voxels.std(axis=0), 1, atol=0.15)
    # What two subjects share of a voxel is at most what both let through.
    shared = [np.corrcoef(a, b)[0, 1] for a, b in zip(voxels.T, arrays["subject_02"].T, strict=True)]
    assert (np.array(shared) < ceiling * arrays["subject_02_ceiling"] + 0.1).all()
    assert np.mean(shared) > 0.2


def test_trajectories_are_smooth_and_standard(arrays: dict[str, Any]) -> None:
    latent = arrays["truth/latent"]
    np.testing.assert_allclose(latent.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(latent.std(axis=0), 1, atol=1e-5)
    assert all(np.corrcoef(column[1:], column[:-1])[0, 1] > 0.8 for column in latent.T)
    assert all(abs(np.corrcoef(column[10:], column[:-10])[0, 1]) < 0.2 for column in latent.T)
