"""The references: against sums and fits that are written differently, and on charges that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
from molecules import written

from mltrain.data.molecules.molecule_file import read_molecules
from mltrain.data.molecules.references import fitted_charges, inverse_distances, reference_errors

BOHR, HARTREE = 0.529177210903, 627.5094740631


@pytest.mark.parametrize("seed", range(5))
def test_fitted_charges_are_the_constrained_least_squares_solution(seed: int) -> None:
    draw = np.random.default_rng(seed)
    positions, points = draw.normal(size=(4, 3)), draw.normal(size=(40, 3)) + 5
    potential, total = draw.normal(size=40), float(draw.integers(-1, 2))
    inverse = inverse_distances(points, positions)
    found = fitted_charges(inverse, potential, total)
    # Lagrange's conditions as numpy's own least squares of a row of great weight, and by a general optimiser.
    weight = 1e6
    rows, wanted = np.vstack([inverse, np.full(4, weight)]), np.append(potential, weight * total)
    np.testing.assert_allclose(found, np.linalg.lstsq(rows, wanted, rcond=None)[0], rtol=1e-4, atol=1e-5)
    assert found.sum() == pytest.approx(total, abs=1e-12)

    def error(charges: np.ndarray) -> float:
        return float(np.sum((inverse @ charges - potential) ** 2))

    constraint = {"type": "eq", "fun": lambda charges: charges.sum() - total}
    best = scipy.optimize.minimize(error, np.full(4, total / 4), constraints=constraint, tol=1e-14)
    assert error(found) <= best.fun + 1e-9


def test_the_potential_of_two_charges_by_hand() -> None:
    inverse = inverse_distances(np.array([[0.0, 0.0, 3.0]]), np.array([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
    np.testing.assert_allclose(inverse, [[BOHR / 3.0, BOHR / 5.0]])


def test_reference_errors_are_those_of_a_sum_over_points(tmp_path: Path) -> None:
    molecules = read_molecules(written(tmp_path))
    errors = reference_errors(molecules, np.array([0, 40]))
    for row, index in enumerate((0, 40)):
        total = 0.0
        for point, potential in zip(molecules.points[index], molecules.potential[index], strict=True):
            found = sum(
                charge * BOHR / np.linalg.norm(point.astype(float) - position)
                for charge, position in zip(molecules.monopoles[index], molecules.positions[index], strict=True)
            )
            total += ((found - potential) * HARTREE) ** 2
        assert errors.monopoles[row] == pytest.approx(total, rel=1e-5)
    assert (errors.fitted < errors.monopoles).all()


def test_charges_at_the_nuclei_are_found_again(tmp_path: Path) -> None:
    """Where the potential is that of charges at the nuclei, both errors are the rounding of the file."""
    molecules = read_molecules(written(tmp_path))
    potential = np.stack(
        [
            inverse_distances(points, positions) @ charges
            for points, positions, charges in zip(
                molecules.points, molecules.positions, molecules.monopoles, strict=True
            )
        ]
    ).astype(np.float32)
    exact = read_molecules(written(tmp_path / "exact", esp=potential))
    errors = reference_errors(exact, np.arange(len(exact)))
    assert max(errors.fitted.max(), errors.monopoles.max()) < 1e-7
    count = int(exact.counts[0])
    inverse = inverse_distances(exact.points[0], exact.positions[0, :count])
    np.testing.assert_allclose(fitted_charges(inverse, exact.potential[0], 0.0), exact.monopoles[0, :count], atol=1e-4)
