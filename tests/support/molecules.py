"""Molecules for tests: random ones, archives of simulated ones, and turning them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from mltrain.data.examples.molecules import simulate

__all__ = ["random_batch", "random_rotation", "written"]


def random_batch(seed: int, *, count: int = 3, width: int = 6, points: int = 20, elements: int = 4) -> dict[str, Any]:
    """Return a batch of molecules of 1 to `width` atoms about 1.2 Angstrom apart, float64, with points around them."""
    draw = np.random.default_rng(seed)
    atoms = np.arange(width) < draw.integers(1, width + 1, count)[:, None]
    positions = np.cumsum(draw.normal(0.0, 0.7, (count, width, 3)), axis=1)
    directions = draw.normal(size=(count, points, 3))
    around = directions / np.linalg.norm(directions, axis=-1, keepdims=True) * draw.uniform(12, 14, (count, points, 1))
    return {
        "elements": torch.tensor(np.where(atoms, draw.integers(1, elements + 1, (count, width)), 0)),
        "positions": torch.tensor(np.where(atoms[..., None], positions, 0.0)),
        "total_charge": torch.tensor(draw.integers(-1, 2, count).astype(float)),
        "points": torch.tensor(around),
        "point_mask": torch.ones(count, points, dtype=torch.bool),
    }


def random_rotation(seed: int) -> torch.Tensor:
    """Return an orthogonal matrix, float64; of every other seed with a mirror in it."""
    matrix = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rotation = torch.linalg.qr(matrix)[0]
    return rotation if (torch.det(rotation) > 0) == (seed % 2 == 0) else -rotation


def written(folder: Path, *, geometries: int = 16, points: int = 24, **changes: Any) -> Path:
    """Write an archive of simulated molecules, with some arrays replaced or, by None, left out; return its path."""
    arrays = simulate(geometries, seed=3, points=points) | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "molecules.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path
