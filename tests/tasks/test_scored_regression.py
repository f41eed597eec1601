"""Scored regression: figures of scikit-learn, whatever the batches, the ranks and their order."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from mltrain.tasks.scored_regression import ScoredRegression


def taken(batches: list[torch.Tensor]) -> ScoredRegression:
    metrics = ScoredRegression()
    for outputs, targets in batches:
        metrics.update(outputs, {"targets": targets})
    return metrics


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_equal_scikit_learn(seed: int, sizes: list[int]) -> None:
    draw = torch.Generator().manual_seed(seed)
    batches = [torch.randn(2, size, generator=draw) for size in sizes]
    predicted, true = torch.cat(batches, dim=1).double().numpy()
    found = taken(batches).compute()
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(true, predicted))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(true, predicted))
    if len(true) > 1:
        assert found["r2"] == pytest.approx(reference.r2_score(true, predicted))
    else:
        assert math.isnan(found["r2"])


def test_neither_cuts_nor_the_order_of_ranks_change_a_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randn(2, 33, generator=draw) * 1e3 for _ in range(300)]  # some are read in mid-way
    whole = taken(batches)
    for ranks in ((batches[::2], batches[1::2]), (batches[1::2], batches[::2]), (batches[:9], [], batches[9:])):
        merged = ScoredRegression()
        for rank in ranks:
            merged.merge(json.loads(json.dumps(taken(list(rank)).state(), allow_nan=False)))
        assert merged.compute() == whole.compute()
        assert merged.state() == whole.state()


def test_nothing_and_what_is_not_finite() -> None:
    assert all(math.isnan(value) for value in ScoredRegression().compute().values())
    for bad in (math.nan, math.inf):
        metrics = taken([torch.tensor([[1.0, bad], [1.0, 2.0]])])
        merged = ScoredRegression()
        merged.merge(json.loads(json.dumps(metrics.state(), allow_nan=False)))
        assert not any(math.isfinite(value) for value in merged.compute().values())


def test_types_are_kept() -> None:
    metrics = taken([torch.tensor([[1.0 + 1e-12], [1.0]], dtype=torch.float64)])
    assert metrics.compute()["mae"] == pytest.approx(1e-12, rel=1e-3)
    half = ScoredRegression()
    half.update(torch.tensor([1.5], dtype=torch.bfloat16), {"targets": torch.tensor([1.0])})
    assert half.compute()["mae"] == 0.5
