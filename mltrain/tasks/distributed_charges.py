"""`distributed_charges`: charges around atoms, fitted to the electrostatic potential and to monopoles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch
from mltrain.data.molecules.molecule_checks import check_molecules, nearest_points
from mltrain.data.molecules.molecule_dataset import MoleculeDataset
from mltrain.data.molecules.molecule_file import Molecules, read_molecules
from mltrain.data.molecules.molecule_splits import divide_molecules
from mltrain.data.molecules.units import HARTREE
from mltrain.models.charge_geometry import full_precision, potential_of
from mltrain.models.charge_models import build_charge_model
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.distributed_charges_metrics import ChargeMetrics
from mltrain.tasks.distributed_charges_prediction import ChargePredictor, charge_rows
from mltrain.tasks.distributed_charges_report import write_charge_report
from mltrain.tasks.distributed_charges_sections import ChargeModelSection, MoleculeDataSection

__all__ = ["DistributedCharges"]

_CLEARANCE = 0.2  # Angstrom that are left between a point of the potential and the farthest place of a charge
_ARCHITECTURE = ("n_dcm", "features", "iterations", "radial_basis", "cutoff", "max_displacement")


@register_task("distributed_charges")
class DistributedCharges(Task):
    """For each molecule, esp_w * mean squared error of the potential + charge_w * that of the monopoles."""

    data_section = MoleculeDataSection
    model_section = ChargeModelSection
    headline: ClassVar[tuple[str, str]] = ("val/esp_rmse", "min")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert isinstance(config.data, MoleculeDataSection)
        assert isinstance(config.model, ChargeModelSection)
        data, self._model = config.data, config.model
        if self._model.esp_w == self._model.charge_w == 0:
            raise ConfigError("esp_w and charge_w are both 0", where="model", fix="Give one of them a weight.")
        molecules = read_molecules(Path(data.data_dir) / data.file)
        check_molecules(molecules)
        _check_displacement(self._model.max_displacement, molecules)
        self._splits = divide_molecules(
            molecules,
            fold=data.fold,
            folds=data.folds,
            test_ratio=data.test_ratio,
            seed=data.split_seed,
            hold_out=data.hold_out_molecules,
        )
        self._names = sorted(set(molecules.names))
        self._limits = _limits(molecules)

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits that have geometries."""
        return {
            split: MoleculeDataset(self._splits, split, self._names)
            for split, part in self._splits.splits.items()
            if len(part)
        }

    def collate(self, items: list[Any]) -> Batch:
        """Return what `MoleculeDataset.load` gives, stacked: every batch has the same widths."""
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def build_model(self) -> nn.Module:
        """Return the configured network."""
        return build_charge_model(
            self._model.architecture,
            num_elements=len(self._splits.elements),
            settings=self._settings(),
            options=self._model.options,
        )

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the weighted sum of both errors of each molecule.

        The parts: `esp_loss` and `mono_loss`, already weighted. The outputs: potential (B, G) in kcal/mol/e, monopoles
        (B, A), charges (B, A, K), places (B, A, K, 3) from the centre, centre (B, 3) and atoms (B, A).
        """
        charges, places = model(batch["elements"], batch["positions"], batch["total_charge"])
        atoms, points = batch["elements"] > 0, batch["point_mask"]
        with full_precision(charges):
            potential = potential_of(charges, places, batch["points"], atoms=atoms, point_mask=points)
            monopoles = charges.sum(dim=2)
            # What is masked is 0 on both sides.
            esp = (potential - batch["potential"]).square().sum(dim=1) / points.sum(dim=1)
            mono = (monopoles - batch["monopoles"]).square().sum(dim=1) / atoms.sum(dim=1)
            parts = {"esp_loss": self._model.esp_w * esp, "mono_loss": self._model.charge_w * mono}
        outputs = {
            "potential": potential,
            "monopoles": monopoles,
            "charges": charges,
            "places": places,
            "centre": batch["centre"],
            "atoms": atoms,
        }
        return Losses(parts["esp_loss"] + parts["mono_loss"], outputs, parts)

    def metrics(self) -> Metrics:
        """Return errors of monopoles and of the potential."""
        return ChargeMetrics(self._names, self._limits)

    def metric_names(self) -> tuple[str, ...]:
        """Return the loss, its parts and the metrics."""
        return ("loss", "esp_loss", "mono_loss", *ChargeMetrics.names)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the charges, monopoles and dipole of each molecule."""
        return charge_rows(outputs["charges"], outputs["places"], outputs["centre"], outputs["atoms"])

    def data_facts(self) -> dict[str, Any]:
        """Return the digest of all geometries with their splits, their counts and the elements."""
        return self._splits.facts() | {"elements": self._splits.elements}

    def data_files(self) -> Iterable[DataFile]:
        """Give the geometries of all splits."""
        return self._splits.files()

    def package(self) -> dict[str, Any]:
        """Return the network's settings and the elements."""
        return {
            "architecture": self._model.architecture,
            "settings": self._settings(),
            "options": self._model.options,
            "elements": self._splits.elements,
        }

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for packed weights, and a function (molecules) -> rows of charges."""
        model = build_charge_model(
            package["architecture"],
            num_elements=len(package["elements"]),
            settings=package["settings"],
            options=package["options"],
        )
        return model, ChargePredictor(model, package["elements"])

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the errors of the potential by molecule, beside those of references, and a picture."""
        assert isinstance(metrics, ChargeMetrics)
        write_charge_report(split, metrics, self._splits, n_dcm=self._model.n_dcm, reports=reports)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self._model, name) for name in _ARCHITECTURE}


def _check_displacement(limit: float, molecules: Molecules) -> None:
    """Refuse displacements with which a charge could lie on a point, where its potential is infinite."""
    nearest = float(nearest_points(molecules, in_radii=False).min())
    if limit > nearest - _CLEARANCE:
        raise ConfigError(
            f"is {limit:g} Angstrom, and points of the potential are as close as {nearest:.3f} Angstrom to an atom",
            where="model.max_displacement",
            fix=f"Set it to {max(0.0, nearest - _CLEARANCE):.2f} or less.",
        )


def _limits(molecules: Molecules) -> tuple[float, float]:
    """Return the range of the potential in kcal/mol/e, a little wider than the data."""
    values = molecules.potential[molecules.point_mask].astype(np.float64) * HARTREE
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
