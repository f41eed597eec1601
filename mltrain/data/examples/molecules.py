"""Simulated molecules: perturbed geometries, and the potential of a simple known model of their charges."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import DataError
from mltrain.data.molecules.elements import ELEMENTS
from mltrain.data.molecules.references import inverse_distances
from mltrain.data.molecules.units import BOHR

__all__ = ["MOLECULES", "Charges", "known_charges", "simulate", "write"]

_SEED = 7
_GEOMETRIES = 80  # of each molecule
_POINTS = 64
_SHAKE = 0.05  # Angstrom, standard deviation of each coordinate
_SURFACE = 1.4  # of the van der Waals radii
_ELECTRONEGATIVITY = {1: 2.20, 6: 2.55, 7: 3.04, 8: 3.44}  # Pauling
_TRANSFER = 0.25  # e by unit of electronegativity, over a bond of the usual length
_STRETCH = 1.0  # relative change of the transfer by Angstrom of bond length
_LONE_PAIR = {7: 0.4, 8: 0.5}  # e
_OFF_CENTRE = 0.35  # Angstrom


class Molecule(NamedTuple):
    """A molecule at rest: atomic numbers, positions in Angstrom, and which atoms are bonded."""

    elements: list[int]
    positions: list[list[float]]
    bonds: list[tuple[int, int]]


# Geometries by experiment: NIST Computational Chemistry Comparison and Benchmark Database.
MOLECULES = {
    "ammonia": Molecule(
        [7, 1, 1, 1],
        [[0.0, 0.0, 0.0], [0.0, 0.9377, -0.3816], [0.8121, -0.4689, -0.3816], [-0.8121, -0.4689, -0.3816]],
        [(0, 1), (0, 2), (0, 3)],
    ),
    "formaldehyde": Molecule(
        [6, 8, 1, 1],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 1.205], [0.0, 0.9429, -0.5876], [0.0, -0.9429, -0.5876]],
        [(0, 1), (0, 2), (0, 3)],
    ),
    "hydrogen_cyanide": Molecule([6, 7, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 1.156], [0.0, 0.0, -1.064]], [(0, 1), (0, 2)]),
    "water": Molecule([8, 1, 1], [[0.0, 0.0, 0.0], [0.7572, 0.0, -0.5865], [-0.7572, 0.0, -0.5865]], [(0, 1), (0, 2)]),
}


class Charges(NamedTuple):
    """Point charges: values in e (A + L,), positions in Angstrom (A + L, 3), the atom of each (A + L,)."""

    values: NDArray[np.float64]
    positions: NDArray[np.float64]
    atoms: NDArray[np.int64]


def write(output: Path) -> str:
    """Write `molecules.npz`: perturbed geometries of four small molecules with their potential, as `simulate` says.

    Raises:
        DataError: the file is there already and holds something else.
    """
    path, arrays = output / "molecules.npz", simulate(_GEOMETRIES, seed=_SEED)
    if path.exists():
        _refuse_other(path, arrays)
    else:
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        output.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(f".{path.name}.tmp")
        staging.write_bytes(content.getvalue())
        staging.replace(path)
    return f"{len(arrays['N'])} geometries in {path}"


def simulate(geometries: int, *, seed: int, points: int = _POINTS) -> dict[str, NDArray[Any]]:
    """Return the arrays of `data.molecules.molecule_file` and the dipole D, of so many geometries of each molecule.

    Each is the molecule at rest with every coordinate perturbed, turned at random; its potential is that of
    `known_charges`, at random points of the surface at 1.4 van der Waals radii; its monopoles are theirs. There is no
    quantum chemistry in it, and no energy E.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    largest = max(len(molecule.elements) for molecule in MOLECULES.values())
    count = geometries * len(MOLECULES)
    arrays: dict[str, NDArray[Any]] = {
        "R": np.zeros((count, largest, 3), np.float32),
        "Z": np.zeros((count, largest), np.int64),
        "N": np.zeros(count, np.int64),
        "mono": np.zeros((count, largest), np.float32),
        "esp": np.zeros((count, points), np.float32),
        "vdw_surface": np.zeros((count, points, 3), np.float32),
        "n_grid": np.full(count, points),
        "D": np.zeros((count, 3), np.float32),
        "name": np.repeat(list(MOLECULES), geometries),
    }
    for index, name in enumerate(arrays["name"].tolist()):
        molecule = MOLECULES[name]
        number = len(molecule.elements)
        shaken = np.array(molecule.positions) + generator.normal(0.0, _SHAKE, (number, 3))
        # As single precision keeps them: the potential is that of the positions in the file.
        positions = (shaken @ _rotation(generator)).astype(np.float32)
        charges = known_charges(molecule, positions)
        surface = _surface(molecule.elements, positions, points, generator).astype(np.float32)
        arrays["R"][index, :number], arrays["Z"][index, :number] = positions, molecule.elements
        arrays["N"][index] = number
        arrays["mono"][index, :number] = np.bincount(charges.atoms, charges.values, number)
        arrays["vdw_surface"][index] = surface
        arrays["esp"][index] = inverse_distances(surface, charges.positions) @ charges.values
        arrays["D"][index] = charges.values @ charges.positions / BOHR
    return arrays


def known_charges(molecule: Molecule, positions: NDArray[np.floating[Any]]) -> Charges:
    """Return the charges of a geometry (A, 3) in Angstrom.

    Over each bond charge goes to the more electronegative atom, the more the longer the bond. Each nitrogen and oxygen
    has a lone pair: a negative charge off its centre, away from its bonds, and as much positive charge at its centre.
    """
    places = positions.astype(np.float64)
    values, away = np.zeros(len(places)), np.zeros_like(places)
    for one, other in molecule.bonds:
        elements = [molecule.elements[one], molecule.elements[other]]
        bond = places[other] - places[one]
        length = float(np.linalg.norm(bond))
        usual = sum(ELEMENTS[element].covalent_radius for element in elements)
        stronger = _ELECTRONEGATIVITY[elements[1]] - _ELECTRONEGATIVITY[elements[0]]
        moved = _TRANSFER * stronger * (1.0 + _STRETCH * (length - usual))
        values[one] += moved
        values[other] -= moved
        away[one] -= bond / length
        away[other] += bond / length
    pairs = [atom for atom, element in enumerate(molecule.elements) if element in _LONE_PAIR]
    sizes = np.array([_LONE_PAIR[molecule.elements[atom]] for atom in pairs])
    values[pairs] += sizes
    directions = away[pairs] / np.linalg.norm(away[pairs], axis=1, keepdims=True)
    return Charges(
        np.concatenate([values, -sizes]),
        np.concatenate([places, places[pairs] + _OFF_CENTRE * directions]),
        np.concatenate([np.arange(len(places)), np.array(pairs, dtype=np.int64)]),
    )


def _surface(
    elements: list[int], positions: NDArray[np.floating[Any]], count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return points on the spheres around the atoms, none inside of another sphere, (count, 3)."""
    radii = np.array([_SURFACE * ELEMENTS[element].vdw_radius for element in elements])
    found = np.zeros((0, 3))
    while len(found) < count:
        atoms = generator.choice(len(elements), size=count, p=radii**2 / np.sum(radii**2))
        directions = generator.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        tried = positions[atoms] + radii[atoms, None] * directions
        distances = np.linalg.norm(tried[:, None] - positions, axis=-1)
        found = np.concatenate([found, tried[np.all(distances > 0.999 * radii, axis=1)]])
    return found[:count]


def _rotation(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation drawn uniformly, (3, 3): from a uniform unit quaternion (Shoemake 1992)."""
    quaternion = generator.normal(size=4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _refuse_other(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    try:
        with np.load(path, allow_pickle=False) as there:
            same = {*there.files} == {*arrays} and all(np.array_equal(there[name], arrays[name]) for name in arrays)
    except (OSError, ValueError, EOFError):
        same = False
    if not same:
        raise DataError("is there already and holds something else", where=str(path), fix="Choose another --output.")
