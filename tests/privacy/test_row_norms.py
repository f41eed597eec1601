"""Norms from inner products and in blocks, against float64: never so small that an example exceeds its bound."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.privacy.row_norms import product_squares, sum_of_squares


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
    found = product_squares(left, right).double().sqrt()
    longest = (left.double().norm(dim=1) * right.double().norm(dim=2)).sum(1)
    # Where the product is formed as a whole its elements are rounded: too small by that, and never by more.
    rounding = 2e-6 if 2 * (2 * positions) ** 2 > 96 * 80 else 0.0
    assert (found >= exact * (1 - 1e-6) - rounding * longest).all()
    assert (found <= exact * (1 + 1e-6) + max(rounding, 2e-6) * longest).all()


@pytest.mark.parametrize("size", [5, 1024, 5 * 1024, 10_000, 1_000_003])
def test_blocks(size: int) -> None:
    rows = torch.rand(2, size, generator=torch.Generator().manual_seed(size))
    exact = rows.double().square().sum(1)
    assert ((sum_of_squares([rows, rows]) - 2 * exact).abs() <= 1e-6 * 2 * exact).all()
