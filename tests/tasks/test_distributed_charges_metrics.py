"""Metrics of distributed charges, against numpy over all atoms and points at once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mltrain.tasks.distributed_charges_metrics import BINS, ChargeMetrics

NAMES, LIMITS = ["ammonia", "steam", "water"], (-30.0, 30.0)


def batches(count: int, seed: int = 0) -> list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    """Return pairs of outputs and batches of molecules of 1 to 5 atoms and 3 to 8 points; no ammonia among them."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        atoms = torch.arange(5) < torch.randint(1, 6, (4, 1), generator=draw)
        points = torch.arange(8) < torch.randint(3, 9, (4, 1), generator=draw)
        values = [torch.randn(shape, generator=draw) for shape in ((4, 5), (4, 5), (4, 8), (4, 8))]
        monopoles, found, potential, predicted = values
        batch = {
            "elements": atoms.long(),
            "point_mask": points,
            "monopoles": monopoles * atoms,
            "potential": 9 * potential * points,
            "molecule": torch.randint(1, 3, (4,), generator=draw),
        }
        made.append(({"monopoles": found * atoms, "potential": 9 * predicted * points}, batch))
    return made


def taken(pairs: Any) -> ChargeMetrics:
    metrics = ChargeMetrics(NAMES, LIMITS)
    for outputs, batch in pairs:
        metrics.update(outputs, batch)
    return metrics


def test_figures_are_those_of_all_atoms_and_points() -> None:
    pairs = batches(9)
    atoms = torch.cat([batch["elements"] > 0 for _, batch in pairs]).numpy()
    points = torch.cat([batch["point_mask"] for _, batch in pairs]).numpy()
    found, predicted = (
        torch.cat([out[name] for out, _ in pairs]).double().numpy() for name in ("monopoles", "potential")
    )
    mono, esp = (torch.cat([batch[name] for _, batch in pairs]).double().numpy() for name in ("monopoles", "potential"))
    charge_error, esp_error = (found - mono)[atoms], (predicted - esp)[points]
    rmse = np.sqrt(np.mean(esp_error**2))
    assert taken(pairs).compute() == pytest.approx(
        {
            "mono_mae": np.mean(np.abs(charge_error)),
            "mono_rmse": np.sqrt(np.mean(charge_error**2)),
            "mono_mean": np.mean(found[atoms]),
            "mono_std": np.std(found[atoms]),
            "esp_rmse": rmse,
            "esp_rmse_relative": rmse / np.std(esp[points]),
        },
        rel=1e-5,
    )
    assert set(taken(pairs).compute()) == set(ChargeMetrics.names)


def test_each_molecule_has_its_own_error() -> None:
    pairs = batches(9)
    errors = taken(pairs).by_molecule()
    assert [*errors] == ["steam", "water", "all"]
    water = [
        ((out["potential"] - batch["potential"])[batch["molecule"] == 2], batch["point_mask"][batch["molecule"] == 2])
        for out, batch in pairs
    ]
    squares = torch.cat([error[mask] for error, mask in water]).double().square()
    assert errors["water"].rmse == pytest.approx(float(squares.mean().sqrt()), rel=1e-5)
    assert errors["water"].points + errors["steam"].points == errors["all"].points


def test_a_state_is_json_and_merges_to_the_same_figures() -> None:
    pairs = batches(10)
    merged = ChargeMetrics(NAMES, LIMITS)
    for part in (pairs[:3], pairs[3:4], pairs[4:]):
        merged.merge(json.loads(json.dumps(taken(part).state())))
    whole = taken(pairs)
    assert merged.compute() == pytest.approx(whole.compute(), rel=1e-12)
    assert np.array_equal(merged.counts, whole.counts)
    assert ChargeMetrics(NAMES, LIMITS).compute() == {}


def test_when_the_sums_are_read_does_not_change_a_bit() -> None:
    pairs = batches(300)
    read_often = ChargeMetrics(NAMES, LIMITS)
    for outputs, batch in pairs:
        read_often.update(outputs, batch)
        read_often.state()
    assert read_often.state() == taken(pairs).state()


def test_the_picture_counts_each_point_once_and_those_beyond_the_limits_in_the_last_bins() -> None:
    pairs = batches(5)
    pairs[0][0]["potential"][0, 0], pairs[0][1]["potential"][0, 0] = 1e6, -1e6
    counts = taken(pairs).counts
    assert counts.sum() == sum(int(batch["point_mask"].sum()) for _, batch in pairs)
    assert counts[0, BINS - 1] == 1
    edges = np.linspace(*LIMITS, BINS + 1)
    esp = torch.cat([batch["potential"][batch["point_mask"]] for _, batch in pairs]).double().numpy()
    expected = np.histogram(np.clip(esp, *LIMITS), edges)[0]
    assert np.abs(counts.sum(axis=1) - expected).sum() <= 2
