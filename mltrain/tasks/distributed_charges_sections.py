"""The sections `data` and `model` of `distributed_charges`."""

from __future__ import annotations

from pydantic import Field

from mltrain.config.section import DataSection, ModelSection

__all__ = ["ChargeModelSection", "MoleculeDataSection"]


class MoleculeDataSection(DataSection):
    """Geometries of molecules with the potential around them, in one NumPy archive."""

    file: str = Field(min_length=1, description="NumPy archive (.npz), relative to `data_dir`.")
    folds: int = Field(5, ge=2, le=1000, description="Parts that the geometries outside of test are cut into.")
    test_ratio: float = Field(0.15, ge=0.0, lt=1.0, description="Share of the geometries that is test.")
    split_seed: int = Field(42, description="Seed of the division, which does not depend on the run's `seed`.")
    hold_out_molecules: list[str] = Field(
        default_factory=list, description="Molecules that are test as a whole; `test_ratio` then has no meaning."
    )
    splits_dir: None = Field(None, description="Not used: the division follows from the contents and `split_seed`.")


class ChargeModelSection(ModelSection):
    """A network that places charges around atoms, and what it is fitted to."""

    architecture: str = Field("painn", description="Name of the charge model.")
    n_dcm: int = Field(4, ge=1, le=32, description="Charges around each atom.")
    features: int = Field(32, ge=1, le=4096, description="Width of the scalars and vectors of an atom.")
    iterations: int = Field(2, ge=1, le=32, description="Times that atoms exchange messages.")
    radial_basis: int = Field(16, ge=1, le=1024, description="Functions of the distance between two atoms.")
    cutoff: float = Field(4.0, gt=0.0, description="Distance from which on atoms exchange nothing, in Angstrom.")
    max_displacement: float = Field(
        0.8, ge=0.0, le=3.0, description="Limit of the distance of a charge from its atom, in Angstrom."
    )
    esp_w: float = Field(
        1.0, ge=0.0, description="Weight of the mean squared error of the potential, in (kcal/mol/e)^2."
    )
    charge_w: float = Field(10.0, ge=0.0, description="Weight of the mean squared error of the monopoles, in e^2.")
