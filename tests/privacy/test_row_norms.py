"""Norms from inner products and in blocks, against float64: never so small that an example exceeds its bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.privacy.row_norms import joint_norms, masked, product_norms, row_norms


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    positions=st.sampled_from([1, 2, 7, 40]),
    remainder=st.sampled_from([1.0, 1e-2, 1e-4, 0.0]),
)
def test_products_that_cancel(seed: int, positions: int, remainder: float) -> None:
    """Two halves of a sequence that all but cancel, as gradients of positions may."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(3, 96, 2 * positions, generator=generator)
    right = torch.randn(3, 2 * positions, 80, generator=generator)
    left[:, :, positions:] = -left[:, :, :positions] * (1 - remainder)
    right[:, positions:] = right[:, :positions]
    exact = torch.bmm(left.double(), right.double()).flatten(1).norm(dim=1)
    found = product_norms(left, right).double()
    longest = (left.double().norm(dim=1) * right.double().norm(dim=2)).sum(1)
    # Where the product is formed as a whole its elements are rounded: too small by that, and never by more.
    rounding = 2e-6 if 2 * (2 * positions) ** 2 > 96 * 80 else 0.0
    assert (found >= exact * (1 - 1e-6) - rounding * longest).all()
    assert (found <= exact * (1 + 1e-6) + max(rounding, 2e-6) * longest).all()


@pytest.mark.parametrize("size", [5, 1024, 5 * 1024, 10_000, 1_000_003])
def test_blocks(size: int) -> None:
    rows = torch.rand(2, size, generator=torch.Generator().manual_seed(size))
    exact = (2 * rows.double().square().sum(1)).sqrt()
    assert ((joint_norms([row_norms(rows), row_norms(rows)]) - exact).abs() <= 5e-7 * exact).all()


@pytest.mark.parametrize("size", [1e-19, 1e-22, 1e-40, 0.0])
def test_norms_of_tiny_elements_are_not_too_small(size: float) -> None:
    rows = torch.full((2, 10_000), size)
    exact = rows.double().norm(dim=1)
    assert (row_norms(rows) >= exact).all()
    assert (row_norms(rows) <= exact + 1e-16).all()
    assert (joint_norms([row_norms(rows)] * 3) >= exact * 3**0.5 * (1 - 1e-6)).all()


@pytest.mark.parametrize("positions", [1, 3, 50])
def test_products_of_tiny_and_large_values(positions: int) -> None:
    left, right = torch.full((2, 3, positions), 2e-23), torch.full((2, positions, 4), 1e18)
    exact = torch.bmm(left.double(), right.double()).flatten(1).norm(dim=1)
    assert (product_norms(left, right) >= exact * (1 - 1e-6)).all()


def test_masked_rows_are_zero_also_where_they_are_not_finite() -> None:
    values = torch.tensor([[[1.0, 2.0]], [[float("nan"), float("inf")]]])
    assert masked(values, torch.tensor([False, True])).tolist() == [[[1.0, 2.0]], [[0.0, 0.0]]]
