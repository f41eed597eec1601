"""Predicting charges with a packed model: from elements and positions to charges, monopoles and a dipole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mltrain.core.errors import DataError
from mltrain.data.molecules.elements import ELEMENTS
from mltrain.data.molecules.molecule_dataset import centred, element_places
from mltrain.data.molecules.units import BOHR, HARTREE
from mltrain.models.charge_geometry import potential_of

__all__ = ["ChargePredictor", "charge_rows"]

_KEYS = ("Z", "R", "charge", "points")
_MOST_AT_ONCE = 128
_TOO_CLOSE = 0.1  # Angstrom


class ChargePredictor:
    """Predicts the charges of molecules.

    Args:
        model: predictions are made with whatever weights it holds, on the device it is on.
        elements: the atomic numbers that it was trained with.
    """

    def __init__(self, model: nn.Module, elements: Sequence[int]) -> None:
        self._model, self._elements = model, list(elements)
        self._places = element_places(elements)

    def __call__(self, molecules: Any) -> list[dict[str, Any]]:
        """Return one row for each molecule: see `charge_rows`.

        Args:
            molecules: a molecule or a list of them, each a dict of Z, atomic numbers (N,), and R, positions (N, 3) in
                Angstrom; optionally charge, its total charge in e (0), and points (P, 3) in Angstrom, at which the row
                has the `potential` in Hartree/e.

        Raises:
            DataError: something else was given, or a point lies on a charge.
        """
        given = [molecules] if isinstance(molecules, Mapping) else molecules
        if not isinstance(given, Sequence) or isinstance(given, str | bytes):
            raise _wrong("predict", f"cannot predict from a value of type {type(molecules).__name__}")
        checked = [self._checked(number, molecule) for number, molecule in enumerate(given)]
        rows: list[dict[str, Any]] = []
        for start in range(0, len(checked), _MOST_AT_ONCE):
            rows += self._rows(checked[start : start + _MOST_AT_ONCE])
        for number, row in enumerate(rows):
            _refuse_infinite(number, row.get("potential", []))
        return rows

    def _checked(self, number: int, molecule: Any) -> dict[str, NDArray[Any]]:
        where = f"predict, molecule {number}"
        if not isinstance(molecule, Mapping) or not {"Z", "R"} <= {*molecule} <= {*_KEYS}:
            given = sorted(map(str, molecule)) if isinstance(molecule, Mapping) else type(molecule).__name__
            raise _wrong(where, f"is {given}")
        try:
            elements, positions = _reals(molecule["Z"]), _reals(molecule["R"])
            points, charge = _reals(molecule.get("points", np.zeros((0, 3)))), _reals(molecule.get("charge", 0.0))
        except (TypeError, ValueError, RuntimeError) as error:
            raise _wrong(where, f"holds no numbers ({error})") from None
        if elements.ndim != 1 or not len(elements) or positions.shape != (len(elements), 3):
            raise _wrong(where, f"has Z of shape {elements.shape} and R of shape {positions.shape}")
        if points.ndim != 2 or points.shape[1] != 3 or charge.ndim:
            raise _wrong(where, f"has points of shape {points.shape} and a charge of shape {charge.shape}")
        with np.errstate(over="ignore"):
            finite = [np.isfinite(array.astype(np.float32)).all() for array in (elements, positions, points, charge)]
        if not all(finite):
            raise _wrong(where, "has a number that is not finite in float32")
        apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + np.eye(len(elements))
        if apart.min() < _TOO_CLOSE:
            raise _wrong(where, f"has two atoms {apart.min():.3f} Angstrom apart")
        for element in elements.tolist():
            if element not in self._elements:
                known = ", ".join(ELEMENTS[number].symbol for number in self._elements)
                raise DataError(
                    f"has the element {element:g}, which the model was not trained with",
                    where=where,
                    fix=f"It knows {known}.",
                )
        return {"Z": elements.astype(np.int64), "R": positions, "points": points, "charge": charge}

    @torch.inference_mode()
    def _rows(self, molecules: list[dict[str, NDArray[Any]]]) -> list[dict[str, Any]]:
        device = next(self._model.parameters()).device
        width, most = (max(len(molecule[key]) for molecule in molecules) for key in ("Z", "points"))
        parts: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("elements", "positions", "points", "point_mask", "total_charge", "centre")
        }
        for molecule in molecules:
            count, points = len(molecule["Z"]), len(molecule["points"])
            wide, around = np.zeros((width, 3)), np.zeros((most, 3))
            wide[:count], around[:points] = molecule["R"], molecule["points"]
            positions, points_from, centre = centred(wide, around, count, points)
            parts["elements"].append(np.pad(self._places[molecule["Z"]], (0, width - count)))
            parts["positions"].append(positions)
            parts["points"].append(points_from)
            parts["point_mask"].append(np.arange(most) < points)
            parts["total_charge"].append(molecule["charge"].astype(np.float32))
            parts["centre"].append(centre)
        batch = {name: torch.from_numpy(np.stack(arrays)).to(device) for name, arrays in parts.items()}
        charges, places = self._model(batch["elements"], batch["positions"], batch["total_charge"])
        potential = potential_of(
            charges, places, batch["points"], atoms=batch["elements"] > 0, point_mask=batch["point_mask"]
        )
        rows = charge_rows(charges, places, batch["centre"], batch["elements"] > 0)
        for row, values, molecule in zip(rows, potential.double().cpu().numpy(), molecules, strict=True):
            if len(molecule["points"]):
                row["potential"] = (values[: len(molecule["points"])] / HARTREE).tolist()
        return rows


def _refuse_infinite(number: int, potential: Sequence[float]) -> None:
    for point, value in enumerate(potential):
        if not np.isfinite(value):
            raise DataError(
                f"point {point} lies on a charge, where the potential has no value",
                where=f"predict, molecule {number}",
                fix="Move it, or leave it out.",
            )


def _reals(given: Any) -> NDArray[np.float64]:
    array = np.asarray(given)
    if array.dtype.kind == "c":
        raise ValueError("they are complex")
    return array.astype(np.float64)


def charge_rows(
    charges: torch.Tensor, places: torch.Tensor, centre: torch.Tensor, atoms: torch.Tensor
) -> list[dict[str, Any]]:
    """Return one row for each molecule.

    A row has charges (e), their positions (Angstrom) and atoms (the atom that each belongs to), all as lists of N * K;
    the monopoles of the N atoms (e); and the dipole (3 numbers, e Bohr) about the origin of the positions.

    Args:
        charges: (B, A, K).
        places: (B, A, K, 3), from the centre.
        centre: (B, 3).
        atoms: which places hold an atom, (B, A).
    """
    rows = []
    arrays = (tensor.detach().double().cpu().numpy() for tensor in (charges, places + centre[:, None, None]))
    for values, positions, real in zip(*arrays, atoms.cpu().numpy(), strict=True):
        held, put = values[real], positions[real]
        dipole = (held[..., None] * put).sum(axis=(0, 1)) / BOHR
        rows.append(
            {
                "charges": held.reshape(-1).tolist(),
                "positions": put.reshape(-1, 3).tolist(),
                "atoms": np.repeat(np.arange(len(held)), held.shape[1]).tolist(),
                "monopoles": held.sum(axis=1).tolist(),
                "dipole": dipole.tolist(),
            }
        )
    return rows


def _wrong(where: str, what: str) -> DataError:
    return DataError(
        what,
        where=where,
        fix="Give dicts of Z (atomic numbers) and R (positions in Angstrom), and if wanted charge and points.",
    )
