"""Strata of labels: themselves, or bins of equal size."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.data.tables.strata import strata_of


def test_names_and_few_numbers_are_strata_themselves() -> None:
    for labels in (["b", "a", "1"], [str(k % 20) for k in range(50)], [str(k % 30) for k in range(180)]):
        assert strata_of(labels, parts=6, bins=None) == (labels, None)


def test_many_numbers_are_binned_each_with_two_rows_a_part() -> None:
    assert strata_of([str(k) for k in range(200)], parts=6, bins=None).bins == 10
    assert strata_of([str(k) for k in range(60)], parts=6, bins=None).bins == 5
    strata = strata_of([str(k % 30) for k in range(120)], parts=6, bins=None)
    assert strata.bins == 10
    assert set(Counter(strata.names).values()) == {12}


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=200), st.integers(2, 12), st.randoms())
def test_bins_are_intervals_and_do_not_depend_on_the_order(values: list[int], bins: int, draw: object) -> None:
    names, count = strata_of([str(value) for value in values], parts=2, bins=bins)
    assert count == bins
    assert len(set(names)) <= bins
    of_value: dict[int, set[str]] = {}
    for value, name in zip(values, names, strict=True):
        of_value.setdefault(value, set()).add(name)
    assert all(len(found) == 1 for found in of_value.values())
    in_order = [min(of_value[value]) for value in sorted(of_value)]
    assert in_order == sorted(in_order)
    order = list(range(len(values)))
    draw.shuffle(order)  # type: ignore[attr-defined]
    mixed = strata_of([str(values[k]) for k in order], parts=2, bins=bins).names
    assert mixed == [names[k] for k in order]


@pytest.mark.parametrize("bins", [4, 10])
def test_bins_of_different_values_are_of_equal_size(bins: int) -> None:
    sizes = Counter(strata_of([str(k**2) for k in range(103)], parts=5, bins=bins).names).values()
    assert len(sizes) == bins
    assert max(sizes) - min(sizes) <= 1
