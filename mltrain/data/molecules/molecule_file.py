"""Reading a NumPy archive of molecules: its arrays, their shapes and types. What they hold: `molecule_checks`.

| array | shape | what |
|---|---|---|
| R | (M, A, 3) | positions of the atoms, Angstrom, padded with 0 |
| Z | (M, A) | atomic numbers, padded with 0 |
| N | (M,) | number of atoms |
| mono | (M, A) | monopoles (Mulliken charges, say), e, padded with 0 |
| vdw_surface | (M, G, 3) | points of the potential, Angstrom |
| esp | (M, G) | potential at these points, Hartree/e |
| n_grid | (M,) | number of points |
| Q | (M,) | total charge, e; 0 where there is no such array |
| name | (M,) | name of the molecule; its formula where there is no such array |

Other arrays (dipoles D, energies E) are passed over.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import DataError
from mltrain.core.registry import nearest
from mltrain.data.molecules.elements import ELEMENTS, formula

__all__ = ["Molecules", "place", "read_molecules"]

_NEEDED = ("R", "Z", "N", "mono", "esp", "vdw_surface", "n_grid")
_KNOWN = (*_NEEDED, "Q", "name")
_LIKE_THAT = "The page distributed-charges says which arrays there must be."


@dataclass(frozen=True)
class Molecules:
    """The geometries of a file, M of them, with at most A atoms and G points each.

    Attributes:
        file: where they were read.
        positions: (M, A, 3), Angstrom.
        elements: (M, A), atomic numbers; 0: no atom.
        counts: (M,), atoms of each.
        monopoles: (M, A), e.
        points: (M, G, 3), Angstrom.
        potential: (M, G), Hartree/e.
        point_counts: (M,), points of each.
        charges: (M,), total charge, e.
        names: M names of molecules.
    """

    file: Path
    positions: NDArray[np.floating[Any]]
    elements: NDArray[np.int64]
    counts: NDArray[np.int64]
    monopoles: NDArray[np.floating[Any]]
    points: NDArray[np.floating[Any]]
    potential: NDArray[np.floating[Any]]
    point_counts: NDArray[np.int64]
    charges: NDArray[np.floating[Any]]
    names: list[str]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def atom_mask(self) -> NDArray[np.bool_]:
        """Which places hold an atom, (M, A)."""
        return np.arange(self.elements.shape[1]) < self.counts[:, None]

    @property
    def point_mask(self) -> NDArray[np.bool_]:
        """Which places hold a point, (M, G)."""
        return np.arange(self.potential.shape[1]) < self.point_counts[:, None]

    def geometry_digests(self) -> list[str]:
        """Return the digest of each geometry: its elements and positions, without padding."""
        return [_digest(self.elements[i, :n], self.positions[i, :n]) for i, n in enumerate(self.counts)]

    def content_digests(self) -> list[str]:
        """Return the digest of all that a model learns from of each geometry, without padding."""
        sizes = zip(self.counts, self.point_counts, strict=True)
        return [
            _digest(
                self.elements[i, :n],
                self.positions[i, :n],
                self.monopoles[i, :n],
                self.points[i, :g],
                self.potential[i, :g],
                self.charges[i],
            )
            for i, (n, g) in enumerate(sizes)
        ]


def place(file: Path, array: str, *index: int) -> str:
    """Return a place in a file for people: "esp_small.npz, esp[17, 3]"."""
    return f"{file}, {array}[{', '.join(map(str, index))}]" if index else f"{file}, {array}"


def read_molecules(file: Path) -> Molecules:
    """Read a file, all of it, once.

    Raises:
        DataError: it is missing, damaged, lacks an array, or an array has another shape or type.
    """
    arrays = _Arrays(file)
    atoms, points = arrays.shape("Z", 2), arrays.shape("esp", 2)
    count = atoms[0]
    elements, counts = arrays.whole("Z", atoms), arrays.whole("N", (count,))
    return Molecules(
        file=file,
        positions=arrays.real("R", (*atoms, 3)),
        elements=elements,
        counts=counts,
        monopoles=arrays.real("mono", atoms),
        points=arrays.real("vdw_surface", (count, points[1], 3)),
        potential=arrays.real("esp", (count, points[1])),
        point_counts=arrays.whole("n_grid", (count,)),
        charges=arrays.real("Q", (count,)) if "Q" in arrays else np.zeros(count),
        names=arrays.texts("name", count) if "name" in arrays else _formulas(elements),
    )


class _Arrays:
    """The arrays of an archive, each read once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            _refuse_other_files(file)
            with np.load(file, allow_pickle=False) as archive:
                self._arrays = {name: archive[name] for name in archive.files}
            # Of a member that does not begin as an array, numpy gives the bytes.
            if damaged := [name for name in _KNOWN if isinstance(self._arrays.get(name), bytes)]:
                raise ValueError(f"{damaged[0]} is no array")
        except FileNotFoundError:
            raise DataError(
                "there is no such file", where=str(file), fix="Check data.data_dir and data.file."
            ) from None
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                f"cannot be read as a NumPy archive ({error})",
                where=str(file),
                fix="Write it with numpy.savez, without Python objects.",
            ) from None
        if missing := [name for name in _NEEDED if name not in self._arrays]:
            close = nearest(missing[0], list(self._arrays))
            raise DataError(
                f"has no array {', '.join(missing)}" + (f" (but {close})" if close else ""),
                where=str(file),
                fix=_LIKE_THAT,
            )
        if self._arrays["Z"].size == 0:
            raise DataError("holds no molecule", where=str(file), fix="Add some.")

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of an array of so many dimensions."""
        shape: tuple[int, ...] = self._arrays[name].shape
        if len(shape) != dimensions:
            raise self._wrong(name, f"has the shape {shape}, not {dimensions} dimensions")
        return shape

    def real(self, name: str, shape: tuple[int, ...]) -> NDArray[np.floating[Any]]:
        """Return floating-point numbers of a shape."""
        array = self._shaped(name, shape)
        if array.dtype.kind in "iu":
            return array.astype(np.float64)
        if array.dtype.kind != "f":
            raise self._wrong(name, f"holds {array.dtype}, no numbers")
        return array

    def whole(self, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return whole numbers of a shape."""
        array = self._shaped(name, shape)
        if array.dtype.kind not in "iu":
            raise self._wrong(name, f"holds {array.dtype}, no whole numbers")
        return array.astype(np.int64)

    def texts(self, name: str, count: int) -> list[str]:
        """Return so many texts."""
        array = self._shaped(name, (count,))
        if array.dtype.kind not in "US":
            raise self._wrong(name, f"holds {array.dtype}, no texts")
        return [str(text) for text in array.astype(np.str_)]

    def _shaped(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        array: NDArray[Any] = self._arrays[name]
        if array.shape != shape:
            raise self._wrong(name, f"has the shape {array.shape}, and by the other arrays it must be {shape}")
        return array

    def _wrong(self, name: str, what: str) -> DataError:
        return DataError(what, where=place(self._file, name), fix=_LIKE_THAT)


def _refuse_other_files(file: Path) -> None:
    """Raise ValueError for what is no archive: numpy would take it for a pickle, and advise to trust it."""
    with file.open("rb") as stream:
        start = stream.read(6)
    if not start:
        raise ValueError("the file is empty")
    if not start.startswith(b"PK"):
        raise ValueError("a single array, no archive" if start == b"\x93NUMPY" else "it is no .npz file")


def _formulas(elements: NDArray[np.int64]) -> list[str]:
    return [formula([number for number in row if number in ELEMENTS]) for row in elements.tolist()]


def _digest(*parts: Any) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        array = np.ascontiguousarray(part, dtype="<i8" if np.asarray(part).dtype.kind == "i" else "<f4")
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
