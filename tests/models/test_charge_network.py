"""The charge network has the symmetries of molecules, and its total charge, whatever its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from molecules import random_batch, random_rotation
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.models.charge_geometry import potential_of, squashed
from mltrain.models.charge_models import build_charge_model

SETTINGS = {"n_dcm": 3, "features": 8, "iterations": 2, "radial_basis": 6, "cutoff": 3.0, "max_displacement": 0.7}
BOHR, HARTREE = 0.529177210903, 627.5094740631
SEEDS = st.integers(0, 2**31)


def network(seed: int = 0, **changes: Any) -> nn.Module:
    """Return a network of 4 elements with weights large enough to matter, float64."""
    torch.manual_seed(seed)
    model = build_charge_model("painn", num_elements=4, settings=SETTINGS | changes, options={}).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.5
    return model


def called(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        charges, places = model(batch["elements"], batch["positions"], batch["total_charge"])
    return charges, places


def potential(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    charges, places = called(model, batch)
    return potential_of(charges, places, batch["points"], atoms=batch["elements"] > 0, point_mask=batch["point_mask"])


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare within the rounding of double precision: a few times 1e-16 of what was added up."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11 * scale)


def in_single(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.float() if value.is_floating_point() else value for name, value in batch.items()}


@settings(max_examples=15, deadline=None)
@given(SEEDS, SEEDS, st.floats(-50, 50))
def test_charges_turn_along_and_the_potential_stays(seed: int, turn: int, shift: float) -> None:
    """Rotations, mirrors and translations; in double precision, so that nothing hides behind rounding."""
    model, batch, rotation = network(seed), random_batch(seed), random_rotation(turn)
    moved = batch | {name: batch[name] @ rotation.T + shift for name in ("positions", "points")}
    charges, places = called(model, batch)
    charges_moved, places_moved = called(model, moved)
    atoms = batch["elements"] > 0
    assert_equal(charges_moved, charges)
    assert_equal(places_moved[atoms], (places @ rotation.T + shift)[atoms])
    assert_equal(potential(model, moved), potential(model, batch))


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.permutations(range(6)))
def test_the_order_of_the_atoms_does_not_matter(seed: int, order: list[int]) -> None:
    model, batch = network(seed), random_batch(seed)
    other = batch | {name: batch[name][:, order] for name in ("elements", "positions")}
    for found, expected in zip(called(model, other), called(model, batch), strict=True):
        assert_equal(found, expected[:, order])


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_total_charge_is_kept_to_rounding_in_single_precision(seed: int) -> None:
    batch = in_single(random_batch(seed))
    charges, _ = called(network(seed).float(), batch)
    assert charges.dtype == torch.float32
    sizes = 1.0 + charges.double().abs().sum(dim=(1, 2))
    difference = charges.double().sum(dim=(1, 2)) - batch["total_charge"].double()
    assert float((difference.abs() / sizes).max()) < 4 * torch.finfo(torch.float32).eps
    assert float(charges[batch["elements"] == 0].abs().sum()) == 0


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_padding_and_the_other_molecules_of_a_batch_do_not_matter(seed: int) -> None:
    model, batch = network(seed), random_batch(seed)
    together = potential(model, batch)
    for index, elements in enumerate(batch["elements"]):
        count = int((elements > 0).sum())
        alone = {name: value[index : index + 1] for name, value in batch.items()}
        alone |= {name: alone[name][:, :count] for name in ("elements", "positions")}
        assert_equal(potential(model, alone)[0], together[index])
    # Whatever stands behind the atoms, and behind the points.
    filled = batch | {"positions": torch.where((batch["elements"] > 0)[..., None], batch["positions"], 7.0)}
    torch.testing.assert_close(potential(model, filled), together, rtol=0, atol=0)


def test_the_potential_is_the_sum_over_all_charges() -> None:
    batch = random_batch(5)
    model = network(5)
    charges, places = (tensor.numpy() for tensor in called(model, batch))
    expected = np.zeros((3, 20))
    for molecule, atom in np.ndindex(3, 6):
        if batch["elements"][molecule, atom] == 0:
            continue
        for number in range(3):
            distances = np.linalg.norm(batch["points"][molecule].numpy() - places[molecule, atom, number], axis=-1)
            expected[molecule] += HARTREE * charges[molecule, atom, number] / (distances / BOHR)
    np.testing.assert_allclose(potential(model, batch).numpy(), expected, rtol=1e-12)
    single = in_single(batch)
    np.testing.assert_allclose(potential(model.float(), single).numpy(), expected, atol=2e-3, rtol=1e-4)


def test_masked_points_have_no_potential_and_no_gradient() -> None:
    model, batch = network(1, max_displacement=0.0), random_batch(1)
    batch["point_mask"][:, 12:] = False
    # Where a charge lies on a masked point, 1 / 0 must not reach the gradient.
    batch["points"][:, 12:] = 0.0
    batch["positions"][:, 0] = 0.0
    charges, places = model(batch["elements"], batch["positions"], batch["total_charge"])
    found = potential_of(charges, places, batch["points"], atoms=batch["elements"] > 0, point_mask=batch["point_mask"])
    assert float(found.detach()[:, 12:].abs().sum()) == 0
    found.square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_gradients_are_finite_for_single_atoms_and_for_atoms_that_do_not_meet() -> None:
    model = network(2)
    batch = random_batch(2, count=2)
    batch["elements"][0, 1:] = 0
    batch["elements"][1] = 1
    batch["positions"][1] = torch.arange(18.0).reshape(6, 3) * 100.0
    charges, places = model(batch["elements"], batch["positions"], batch["total_charge"])
    assert float(charges.detach()[batch["elements"] == 0].abs().sum()) == 0
    (charges.square().sum() + places.square().sum()).backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    torch.testing.assert_close(charges.sum(dim=(1, 2)), batch["total_charge"])


def test_atoms_beyond_the_cutoff_are_not_seen_and_the_cutoff_is_smooth() -> None:
    model = network(3, cutoff=2.0)

    def charges_at(distance: float) -> torch.Tensor:
        positions = torch.tensor([[[0.0, 0.0, 0.0], [distance, 0.0, 0.0]]], dtype=torch.float64)
        return model(torch.tensor([[1, 2]]), positions, torch.zeros(1, dtype=torch.float64))[0].detach()

    far, beyond, just_within = charges_at(30.0), charges_at(2.0001), charges_at(1.9999)
    assert torch.equal(far, beyond)
    torch.testing.assert_close(just_within, beyond, rtol=0, atol=1e-4)
    assert float((charges_at(1.0) - far).abs().max()) > 1e-3


def test_no_charge_is_further_from_its_atom_than_the_limit() -> None:
    vectors = torch.tensor([[0.0, 0.0, 0.0], [1e-3, 0.0, 0.0], [0.0, 300.0, 400.0]], dtype=torch.float64)
    found = squashed(vectors, 0.5)
    torch.testing.assert_close(found[1, 0], torch.tensor(0.5e-3, dtype=torch.float64), rtol=1e-5, atol=0)
    torch.testing.assert_close(found[2], torch.tensor([0.0, 0.3, 0.4], dtype=torch.float64), rtol=1e-5, atol=1e-9)
    batch = random_batch(4)
    _, places = called(network(4, max_displacement=0.0), batch)
    assert torch.equal(places, batch["positions"][:, :, None].expand(places.shape))


def test_under_autocast_positions_and_vectors_keep_their_precision() -> None:
    """Layers on scalars are rounded to 8 bits; the frame must not show beyond what that rounding makes of 24 bits."""
    batch = in_single(random_batch(6))
    model = network(6).float()
    plain = potential(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = potential(model, batch)
        charges, places = called(model, batch)
    assert charges.dtype == places.dtype == rounded.dtype == torch.float32
    difference = float((rounded - plain).abs().max())
    assert 0 < difference < 0.1 * float(plain.abs().max())
    total = charges.double().sum(dim=(1, 2)) - batch["total_charge"].double()
    assert float(total.abs().max()) < 1e-5


def test_an_option_that_the_network_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.options: painn cannot be built .*heads"):
        build_charge_model("painn", num_elements=2, settings=SETTINGS, options={"heads": 2})
    with pytest.raises(ConfigError, match="Did you mean 'painn'"):
        build_charge_model("pain", num_elements=2, settings=SETTINGS, options={})
