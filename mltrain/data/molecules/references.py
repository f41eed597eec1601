"""Potentials of point charges, and the two errors that a model of them is held against.

The file's own monopoles give one; charges at the nuclei, fitted to the potential of each geometry by least squares
under the constraint of the total charge (Singh and Kollman 1984; Besler et al. 1990), give the least error that one
charge an atom can reach: a floor, since the fit sees the very potential that it is measured by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mltrain.data.molecules.molecule_file import Molecules
from mltrain.data.molecules.units import BOHR, HARTREE

__all__ = ["ReferenceErrors", "fitted_charges", "inverse_distances", "reference_errors"]


@dataclass(frozen=True)
class ReferenceErrors:
    """Sums over the points of each geometry, (M,), of squared errors of the potential in (kcal/mol/e)^2.

    Attributes:
        monopoles: of the file's monopoles.
        fitted: of charges fitted to the geometry itself.
    """

    monopoles: NDArray[np.float64]
    fitted: NDArray[np.float64]


def inverse_distances(points: NDArray[np.floating], positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 / distance in 1/Bohr, (G, A), for points (G, 3) and positions (A, 3) in Angstrom.

    Times charges in e (A,), this is their potential in Hartree/e.
    """
    difference = points.astype(np.float64)[:, None] - positions.astype(np.float64)[None]
    inverse: NDArray[np.float64] = BOHR / np.linalg.norm(difference, axis=-1)
    return inverse


def fitted_charges(
    inverse: NDArray[np.float64], potential: NDArray[np.floating], total_charge: float
) -> NDArray[np.float64]:
    """Return the charges (A,) that minimise the squared error of the potential and add up to the total charge.

    The constraint is taken out by writing the charges as equal shares of the total plus a combination of directions
    that add nothing to it; what is left is an ordinary least-squares problem, without the squared condition number of
    normal equations.

    Args:
        inverse: `inverse_distances`, (G, A).
        potential: Hartree/e, (G,).
        total_charge: e.
    """
    count = inverse.shape[1]
    shares = np.full(count, total_charge / count)
    directions = np.linalg.qr(np.column_stack([np.ones(count), np.eye(count)[:, 1:]]))[0][:, 1:]
    steps = np.linalg.lstsq(inverse @ directions, potential.astype(np.float64) - inverse @ shares, rcond=None)[0]
    charges: NDArray[np.float64] = shares + directions @ steps
    return charges


def reference_errors(molecules: Molecules, indices: NDArray[np.int64]) -> ReferenceErrors:
    """Return both errors of some geometries."""
    errors = np.zeros((2, len(indices)))
    for row, index in enumerate(indices):
        atoms, points = molecules.counts[index], molecules.point_counts[index]
        inverse = inverse_distances(molecules.points[index, :points], molecules.positions[index, :atoms])
        potential = molecules.potential[index, :points]
        fitted = fitted_charges(inverse, potential, float(molecules.charges[index]))
        for kind, charges in enumerate((molecules.monopoles[index, :atoms], fitted)):
            errors[kind, row] = np.sum(np.square((inverse @ charges - potential) * HARTREE))
    return ReferenceErrors(errors[0], errors[1])
