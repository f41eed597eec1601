"""The geometries of a split, one at a time, in the units that a model is fitted in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.seeding import SampleGenerator
from mltrain.data.molecules.molecule_splits import MoleculeSplits
from mltrain.data.molecules.units import HARTREE

__all__ = ["MoleculeDataset", "centred", "element_places"]


class MoleculeDataset:
    """Geometries with their potential. There is nothing to augment: a model of them has the symmetries itself.

    Args:
        splits: all geometries, divided.
        split: "train", "val" or "test".
        names: molecules, of which each sample gives the place.
    """

    def __init__(self, splits: MoleculeSplits, split: str, names: Sequence[str]) -> None:
        self._molecules, self._indices = splits.molecules, splits.splits[split]
        self._digests = [splits.digests[index] for index in self._indices]
        # Batches are as wide as the largest molecule of the file: their shape depends on it alone.
        self._width = int(splits.molecules.counts.max())
        self._places = element_places(splits.elements)
        self._names = {name: number for number, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self._indices)

    def sample_id(self, index: int) -> str:
        """Return the molecule's name and the digest of the geometry's content."""
        return f"{self._molecules.names[self._indices[index]]}/{self._digests[index]}"

    def load(self, index: int, generator: SampleGenerator | None) -> dict[str, NDArray[Any]]:
        """Return one geometry of at most A atoms and G points.

        Positions and points are taken from the centre of the atoms, in double precision, so that what single precision
        keeps of them does not depend on where the molecule lies.

        Returns:
            elements int64 (A,): places among the training elements, from 1; 0: no atom. positions (A, 3), Angstrom.
            monopoles (A,) and total_charge (), e. points (G, 3), Angstrom. potential (G,), kcal/mol/e. point_mask
            (G,). centre (3,), Angstrom. molecule int64 (): the place of its name. All real numbers float32.
        """
        number, data, width = self._indices[index], self._molecules, self._width
        count, point_count = data.counts[number], data.point_counts[number]
        positions, points, centre = centred(
            data.positions[number, :width], data.points[number], int(count), int(point_count)
        )
        potential = data.potential[number].astype(np.float64) * HARTREE
        potential[point_count:] = 0.0
        return {
            "elements": self._places[data.elements[number, :width]],
            "positions": positions,
            "monopoles": data.monopoles[number, :width].astype(np.float32),
            "total_charge": data.charges[number].astype(np.float32),
            "points": points,
            "potential": potential.astype(np.float32),
            "point_mask": np.arange(len(potential)) < point_count,
            "centre": centre,
            "molecule": np.asarray(self._names[data.names[number]], dtype=np.int64),
        }


def element_places(elements: Sequence[int]) -> NDArray[np.int64]:
    """Return a table: atomic number -> its place among these elements, from 1; 0 for what is not among them."""
    table = np.zeros(128, dtype=np.int64)
    for place, number in enumerate(elements, start=1):
        table[number] = place
    return table


def centred(
    positions: NDArray[Any], points: NDArray[Any], count: int, point_count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return positions (A, 3) and points (G, 3) from the mean of the first `count` positions, and this mean (3,).

    What stands behind the first `count` positions and `point_count` points becomes 0.
    """
    atoms, around = positions.astype(np.float64), points.astype(np.float64)
    centre = atoms[:count].mean(axis=0)
    atoms -= centre
    around -= centre
    atoms[count:], around[point_count:] = 0.0, 0.0
    return atoms.astype(np.float32), around.astype(np.float32), centre.astype(np.float32)
