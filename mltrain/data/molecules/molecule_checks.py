"""What is checked of molecules before anything is computed with them: numbers, padding, elements, distances, units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import DataError
from mltrain.data.molecules.elements import ELEMENTS
from mltrain.data.molecules.molecule_file import Molecules, place
from mltrain.data.molecules.units import BOHR, HARTREE

__all__ = ["check_molecules", "nearest_points"]

_AT_ONCE = 1024
_NEUTRAL = 0.02  # e: how far monopoles may be from the total charge
_INSIDE = 0.8  # of the van der Waals radius: closer to a nucleus, a potential is no longer that of point charges
_TOO_CLOSE = 0.5  # of the sum of covalent radii: no bond is that short
_BOND = 1.5  # of the sum of covalent radii: the distance to the nearest atom, in Bohr taken for Angstrom, is above it
_LARGE = 1.0  # Hartree/e: no potential outside of small molecules is that large
_SMALL = 1e-6  # Hartree/e: nor is one that small over a whole file


def check_molecules(molecules: Molecules) -> None:
    """Raise DataError, with file, array and index, for the first thing that is wrong."""
    _check_counts(molecules)
    _check_numbers(molecules)
    _check_elements(molecules)
    _check_padding(molecules)
    _check_monopoles(molecules)
    _check_bonds(molecules)
    _check_points(molecules)
    _check_potential(molecules)


def nearest_points(molecules: Molecules, *, in_radii: bool) -> NDArray[np.float64]:
    """Return how close the points of each geometry come to a nucleus, (M, G): points that are padding give infinity.

    Args:
        molecules: checked but for this.
        in_radii: as a share of the atom's van der Waals radius; else in Angstrom.
    """
    radii = np.ones(max(ELEMENTS) + 1)
    if in_radii:
        for number, element in ELEMENTS.items():
            radii[number] = element.vdw_radius
    nearest = np.empty(molecules.potential.shape)
    for start in range(0, len(molecules), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        atoms, points = molecules.positions[part].astype(np.float64), molecules.points[part].astype(np.float64)
        distances = np.linalg.norm(points[:, :, None] - atoms[:, None], axis=-1)
        distances /= radii[molecules.elements[part]][:, None]
        distances[np.broadcast_to(~molecules.atom_mask[part][:, None], distances.shape)] = np.inf
        nearest[part] = distances.min(axis=-1)
    nearest[~molecules.point_mask] = np.inf
    return nearest


def _check_counts(molecules: Molecules) -> None:
    for name, counts, most in (
        ("N", molecules.counts, molecules.elements.shape[1]),
        ("n_grid", molecules.point_counts, molecules.potential.shape[1]),
    ):
        wrong = np.flatnonzero((counts < 1) | (counts > most))
        if len(wrong):
            raise _error(molecules, name, wrong[:1], f"is {counts[wrong[0]]}, not 1 to {most}", "Correct it.")


def _check_numbers(molecules: Molecules) -> None:
    for name, array in (
        ("R", molecules.positions),
        ("mono", molecules.monopoles),
        ("vdw_surface", molecules.points),
        ("esp", molecules.potential),
        ("Q", molecules.charges),
    ):
        with np.errstate(over="ignore"):
            index = _first(~np.isfinite(array.astype(np.float32, copy=False)))
        if index is not None:
            value = array[tuple(index)]
            beyond = ", more than float32 holds" if np.isfinite(value) else ""
            raise _error(molecules, name, index, f"is {value}{beyond}", "Give a number, or leave the geometry out.")


def _check_elements(molecules: Molecules) -> None:
    known = np.isin(molecules.elements, [0, *ELEMENTS])
    index = _first(~known)
    if index is not None:
        number = molecules.elements[tuple(index)]
        symbols = ", ".join(element.symbol for element in ELEMENTS.values())
        raise _error(
            molecules, "Z", index, f"is {number}, no atomic number that is known here", f"Known are {symbols}."
        )


def _check_padding(molecules: Molecules) -> None:
    atoms = molecules.atom_mask
    index = _first((molecules.elements == 0) & atoms)
    if index is not None:
        count = molecules.counts[index[0]]
        raise _error(molecules, "Z", index, f"is 0, but N says {count} atoms", "Correct N, or put the atoms first.")
    for name, array in (
        ("Z", molecules.elements),
        ("R", np.abs(molecules.positions).sum(axis=-1)),
        ("mono", molecules.monopoles),
    ):
        index = _first((array != 0) & ~atoms)
        if index is not None:
            count = molecules.counts[index[0]]
            raise _error(
                molecules,
                name,
                index,
                f"is not 0, but N says {count} atoms",
                "Correct N, or pad with 0 behind the atoms.",
            )


def _check_monopoles(molecules: Molecules) -> None:
    sums = molecules.monopoles.astype(np.float64).sum(axis=1)
    index = _first(np.abs(sums - molecules.charges) > _NEUTRAL)
    if index is not None:
        total, given = sums[index[0]], molecules.charges[index[0]]
        raise _error(
            molecules,
            "mono",
            index,
            f"adds up to {total:.3f} e, but the total charge is {given:g}",
            "Give charges in e, and the total charge of ions as an array Q.",
        )


def _check_bonds(molecules: Molecules) -> None:
    """Refuse atoms on top of each other, and positions in another unit."""
    bonds: list[NDArray[np.float64]] = []
    for start in range(0, len(molecules), _AT_ONCE):
        shares = _distances_in_bonds(molecules, slice(start, start + _AT_ONCE))
        index = _first(shares < _TOO_CLOSE)
        if index is not None:
            geometry, one, other = start + index[0], index[1], index[2]
            distance = np.linalg.norm(molecules.positions[geometry, one] - molecules.positions[geometry, other])
            raise _error(
                molecules,
                "R",
                (geometry, one),
                f"is {distance:.3f} Angstrom from atom {other}, too close for two atoms",
                "Give positions in Angstrom (1 nm = 10 Angstrom).",
            )
        nearest = shares.min(axis=2)
        bonds.append(nearest[np.isfinite(nearest)])
    lengths = np.concatenate(bonds)
    if len(lengths) and float(np.median(lengths)) > _BOND:
        raise DataError(
            f"atoms lie {np.median(lengths):.2f} times as far apart as bonds are long",
            where=place(molecules.file, "R"),
            fix=f"Give positions in Angstrom (1 Bohr = {BOHR:.6f} Angstrom).",
        )


def _distances_in_bonds(molecules: Molecules, part: slice) -> NDArray[np.float64]:
    """Return distances of atoms as shares of the sums of covalent radii, (., A, A); infinity where there is no pair."""
    positions, atoms = molecules.positions[part].astype(np.float64), molecules.atom_mask[part]
    radii = np.zeros(max(ELEMENTS) + 1)
    for number, element in ELEMENTS.items():
        radii[number] = element.covalent_radius
    sizes = radii[molecules.elements[part]]
    distances = np.linalg.norm(positions[:, :, None] - positions[:, None], axis=-1)
    pairs = atoms[:, :, None] & atoms[:, None] & ~np.eye(atoms.shape[1], dtype=bool)
    bonds = np.where(pairs, sizes[:, :, None] + sizes[:, None], 1.0)
    return np.where(pairs, distances / bonds, np.inf)


def _check_points(molecules: Molecules) -> None:
    nearest = nearest_points(molecules, in_radii=True)
    index = _first(nearest < _INSIDE)
    if index is not None:
        raise _error(
            molecules,
            "vdw_surface",
            index,
            f"lies inside an atom, at {nearest[tuple(index)]:.2f} of its van der Waals radius",
            "Give points outside of the molecule in Angstrom, in the frame of R.",
        )


def _check_potential(molecules: Molecules) -> None:
    size = np.abs(molecules.potential) * molecules.point_mask
    index = _first(size > _LARGE)
    if index is not None:
        raise _error(
            molecules,
            "esp",
            index,
            f"is {molecules.potential[tuple(index)]:.4g}, too much for Hartree/e",
            f"Give Hartree/e (1 Hartree/e = {HARTREE:.4f} kcal/mol/e = 27.2114 V).",
        )
    if size.max() < _SMALL:
        raise DataError(
            f"is {size.max():.2g} Hartree/e at most", where=place(molecules.file, "esp"), fix="Give the potential."
        )


def _first(wrong: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Return the index of the first True, or None."""
    if not wrong.any():
        return None
    return tuple(int(number) for number in np.unravel_index(int(np.argmax(wrong)), wrong.shape))


def _error(molecules: Molecules, name: str, index: Any, what: str, fix: str) -> DataError:
    return DataError(what, where=place(molecules.file, name, *map(int, index)), fix=fix)
