"""The simulated molecules: what they claim to be, and written once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mltrain.core.errors import DataError
from mltrain.data.examples.molecules import MOLECULES, known_charges, simulate, write
from mltrain.data.molecules.elements import ELEMENTS
from mltrain.data.molecules.molecule_checks import check_molecules
from mltrain.data.molecules.molecule_file import read_molecules
from mltrain.workflows.make_data import DATASETS, make_data, next_command

BOHR = 0.529177210903


def test_the_potential_is_that_of_the_known_charges_by_a_sum_over_them() -> None:
    arrays = simulate(3, seed=5, points=8)
    for index, name in enumerate(arrays["name"].tolist()):
        count = arrays["N"][index]
        charges = known_charges(MOLECULES[name], arrays["R"][index, :count])
        for point, potential in zip(arrays["vdw_surface"][index], arrays["esp"][index], strict=True):
            distances = [np.linalg.norm(point - position) / BOHR for position in charges.positions]
            expected = sum(charge / distance for charge, distance in zip(charges.values, distances, strict=True))
            assert potential == pytest.approx(expected, rel=1e-5)
        assert charges.values.sum() == pytest.approx(0.0, abs=1e-12)
        assert arrays["mono"][index].sum() == pytest.approx(0.0, abs=1e-6)
        dipole = sum(
            charge * position / BOHR for charge, position in zip(charges.values, charges.positions, strict=True)
        )
        np.testing.assert_allclose(arrays["D"][index], dipole, atol=1e-5)


def test_lone_pairs_lie_off_the_centre_and_turn_with_the_molecule() -> None:
    molecule = MOLECULES["water"]
    charges = known_charges(molecule, np.array(molecule.positions))
    np.testing.assert_allclose(charges.positions[3], [0.0, 0.0, 0.35], atol=1e-12)
    assert charges.values[3] == -0.5
    turned = known_charges(molecule, np.array(molecule.positions)[:, [1, 2, 0]])
    np.testing.assert_allclose(turned.positions, charges.positions[:, [1, 2, 0]], atol=1e-12)
    np.testing.assert_allclose(turned.values, charges.values, atol=1e-12)


def test_points_lie_on_the_surface_and_geometries_are_turned() -> None:
    arrays = simulate(4, seed=5, points=16)
    radii = 1.4 * np.array([ELEMENTS[number].vdw_radius if number else np.inf for number in range(9)], dtype=float)
    for index in range(16):
        atoms = arrays["Z"][index] > 0
        distances = np.linalg.norm(arrays["vdw_surface"][index][:, None] - arrays["R"][index][atoms], axis=-1)
        np.testing.assert_allclose((distances / radii[arrays["Z"][index][atoms]]).min(axis=1), 1.0, atol=2e-3)
    bonds = arrays["R"][:4, 1] - arrays["R"][:4, 0]
    assert np.std(bonds / np.linalg.norm(bonds, axis=1, keepdims=True), axis=0).min() > 0.2


def test_a_seed_gives_the_same_arrays_and_another_one_others() -> None:
    one, again, other = simulate(2, seed=1), simulate(2, seed=1), simulate(2, seed=2)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert not np.array_equal(one["R"], other["R"])


def test_the_file_passes_the_checks_and_is_never_replaced(tmp_path: Path) -> None:
    said = make_data("molecules", tmp_path / "data")
    path = tmp_path / "data" / "molecules.npz"
    assert said == f"320 geometries in {path}"
    check_molecules(read_molecules(path))
    written = path.stat().st_mtime_ns
    write(tmp_path / "data")
    assert path.stat().st_mtime_ns == written
    np.savez(path, **simulate(1, seed=1))
    with pytest.raises(DataError, match=r"molecules\.npz: is there already and holds something else\. Choose another"):
        write(tmp_path / "data")
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match="is there already"):
        write(tmp_path / "data")
    assert "320" in DATASETS["molecules"].what
    assert next_command("molecules", Path("d")) == "ml-train --config configs/charges_molecules.yaml data.data_dir=d"
