"""Metrics of distributed charges: errors of monopoles and of the potential, over atoms and over points."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mltrain.data.loader import Batch
from mltrain.tasks.base import Metrics

__all__ = ["BINS", "ChargeMetrics", "EspErrors"]

BINS = 64
"""Bins of the reference and of the predicted potential, each."""
_FOLD_AFTER = 256
_ATOMS, _CHARGE_ERROR, _CHARGE_SQUARE, _CHARGE, _CHARGE_POWER, _POINTS, _ESP_SQUARE, _ESP, _ESP_POWER = range(9)


class EspErrors:
    """The error of the potential of one molecule, or of all: its points, sums of squares and its own spread.

    Args:
        sums: a row of the sums that `ChargeMetrics` keeps, or their total.
    """

    def __init__(self, sums: NDArray[np.float64]) -> None:
        self.points = float(sums[_POINTS])
        self.rmse = float(np.sqrt(sums[_ESP_SQUARE] / self.points))
        mean = sums[_ESP] / self.points
        self.spread = float(np.sqrt(max(0.0, sums[_ESP_POWER] / self.points - mean**2)))

    @property
    def relative(self) -> float:
        """The error as a share of the spread; of a potential without any, of 1e-12 kcal/mol/e."""
        return self.rmse / max(self.spread, 1e-12)


class ChargeMetrics(Metrics):
    """Adds up errors by molecule, and counts pairs of the reference and the predicted potential for a picture.

    mono_mae, mono_rmse: error of the monopoles, the sums of an atom's charges, over atoms, in e. mono_mean, mono_std:
    mean and standard deviation of the predicted monopoles over atoms, in e. esp_rmse: error of the potential over
    points, kcal/mol/e. esp_rmse_relative: the same as a share of the standard deviation of the reference potential over
    these points.

    Args:
        names: of the molecules.
        limits: least and largest reference potential of the data, kcal/mol/e: the range of the picture.
    """

    names: tuple[str, ...] = (
        "mono_mae",
        "mono_rmse",
        "mono_mean",
        "mono_std",
        "esp_rmse",
        "esp_rmse_relative",
    )

    def __init__(self, names: Sequence[str], limits: tuple[float, float]) -> None:
        self.molecules, self.limits = list(names), limits
        self._sums = np.zeros((len(names), 9))
        self._counts = np.zeros((BINS, BINS), dtype=np.int64)
        self._pending: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points by reference (rows) and predicted potential (columns); what is beyond the limits, in the last bins."""
        self._fold()
        return self._counts

    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in "monopoles" (B, A) and "potential" (B, G) of outputs and batch."""
        atoms, points = batch["elements"] > 0, batch["point_mask"]
        monopoles, potential = outputs["monopoles"].detach(), outputs["potential"].detach()
        charge_error, esp_error = (monopoles - batch["monopoles"]) * atoms, potential - batch["potential"]
        reference = batch["potential"]
        # Both potentials are 0 at masked points.
        columns = [
            atoms,
            charge_error.abs(),
            charge_error.square(),
            monopoles * atoms,
            (monopoles * atoms).square(),
            points,
            esp_error.square(),
            reference,
            reference.square(),
        ]
        rows = torch.stack([column.float().sum(dim=1) for column in columns], dim=1)
        bins = self._bins(reference) * BINS + self._bins(potential)
        self._pending.append((batch["molecule"], rows, torch.where(points, bins, -1)))
        if len(self._pending) >= _FOLD_AFTER:
            self._fold()

    def compute(self) -> dict[str, float]:
        """Return the metrics."""
        self._fold()
        total = self._sums.sum(axis=0)
        atoms = total[_ATOMS]
        if atoms == 0:
            return {}
        mean, esp = total[_CHARGE] / atoms, EspErrors(total)
        return {
            "mono_mae": float(total[_CHARGE_ERROR] / atoms),
            "mono_rmse": float(np.sqrt(total[_CHARGE_SQUARE] / atoms)),
            "mono_mean": float(mean),
            "mono_std": float(np.sqrt(max(0.0, total[_CHARGE_POWER] / atoms - mean**2))),
            "esp_rmse": esp.rmse,
            "esp_rmse_relative": esp.relative,
        }

    def by_molecule(self) -> dict[str, EspErrors]:
        """Return the error of the potential of each molecule that was taken in, and of all as "all"."""
        self._fold()
        rows = dict(zip(self.molecules, self._sums, strict=True)) | {"all": self._sums.sum(axis=0)}
        return {name: EspErrors(row) for name, row in rows.items() if row[_POINTS]}

    def state(self) -> dict[str, Any]:
        """Return the sums and the counts."""
        self._fold()
        return {"sums": _packed(self._sums), "counts": _packed(self._counts)}

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add sums and counts."""
        self._fold()
        self._sums += _unpacked(state["sums"], self._sums)
        self._counts += _unpacked(state["counts"], self._counts)

    def _bins(self, potential: torch.Tensor) -> torch.Tensor:
        low, high = self.limits
        shares = (potential - low) * (BINS / (high - low))
        return shares.clamp(0, BINS - 1).nan_to_num().long()

    def _fold(self) -> None:
        if not self._pending:
            return
        molecules, rows, bins = (torch.cat(tensors).cpu().numpy() for tensors in zip(*self._pending, strict=True))
        # One after the other, as `add.at` does: a sum must not depend on when it was read.
        np.add.at(self._sums, molecules, rows.astype(np.float64))
        found = bins[bins >= 0]
        self._counts += np.bincount(found, minlength=self._counts.size).reshape(self._counts.shape)
        self._pending.clear()


def _packed(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _unpacked(text: str, like: NDArray[Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text), dtype=like.dtype).reshape(like.shape)
