"""The bucketed plan: what holds of every plan, and windows of similar length that come in random order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.data.bucketed_plan import BucketedPlan
from mltrain.data.plan import Cut, ShuffledPlan

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=300)


def windows_of(plan: BucketedPlan | ShuffledPlan, epoch: int) -> list[list[int]]:
    return [plan.window(epoch, number).tolist() for number in range(plan.windows_per_epoch)]


def padding(windows: list[list[int]], lengths: list[int]) -> int:
    return sum(max(lengths[i] for i in window) * len(window) - sum(lengths[i] for i in window) for window in windows)


@settings(max_examples=60, deadline=None)
@given(lengths=lengths, window=st.integers(1, 64), seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(lengths: list[int], window: int, seed: int, epoch: int) -> None:
    windows = windows_of(BucketedPlan(lengths, window, seed), epoch)
    assert sorted(itertools.chain(*windows)) == list(range(len(lengths)))
    assert all(len(part) == window for part in windows[:-1])
    assert 0 < len(windows[-1]) <= window
    assert len(windows) == ShuffledPlan(len(lengths), window, seed).windows_per_epoch


@settings(max_examples=40, deadline=None)
@given(lengths=lengths, window=st.integers(1, 64), seed=st.integers(0, 2**62), epochs=st.permutations([0, 1, 2, 7]))
def test_the_order_depends_on_seed_epoch_and_lengths_alone(
    lengths: list[int], window: int, seed: int, epochs: list[int]
) -> None:
    """Not on what was asked before, nor in which order."""
    plan = BucketedPlan(lengths, window, seed)
    for epoch in epochs:
        fresh = BucketedPlan(np.asarray(lengths, dtype=np.int32), window, seed)
        last = fresh.windows_per_epoch - 1
        assert np.array_equal(plan.window(epoch, last), fresh.window(epoch, last))
        assert windows_of(plan, epoch) == windows_of(fresh, epoch)


@settings(max_examples=40, deadline=None)
@given(lengths=lengths, batch=st.integers(1, 9), processes=st.integers(1, 5), accumulation=st.integers(1, 4))
def test_cuts_divide_its_windows(lengths: list[int], batch: int, processes: int, accumulation: int) -> None:
    plan = BucketedPlan(lengths, batch * processes * accumulation, seed=3)
    for number in range(plan.windows_per_epoch):
        shares = [Cut(rank, processes, batch).share(plan.window(0, number)) for rank in range(processes)]
        parts = [part for share in shares if not share.filler for part in share.microbatches]
        assert np.array_equal(np.concatenate(parts), plan.window(0, number))


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=8, max_size=300), window=st.integers(2, 8))
def test_windows_of_one_sorted_run_do_not_overlap_in_length(lengths: list[int], window: int) -> None:
    """Up to a hundred windows are sorted together: then any two of them lie one above the other."""
    full = min(len(lengths) // window, 100)
    plan = BucketedPlan(lengths[: full * window], window, seed=5)
    parts = sorted(([lengths[index] for index in part] for part in windows_of(plan, 0)), key=lambda part: part)
    assert all(one == sorted(one) for one in parts)
    assert all(one[-1] <= other[0] for one, other in itertools.pairwise(parts))


def test_windows_come_in_random_order_and_hold_other_samples_each_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 4000).tolist()
    plan = BucketedPlan(lengths, 20, seed=1)
    first, second = windows_of(plan, 0), windows_of(plan, 1)
    for windows in (first, second):
        means = np.asarray([np.mean([lengths[index] for index in window]) for window in windows])
        assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2, "not from short to long"
        assert padding(windows, lengths) < 0.1 * padding(windows_of(ShuffledPlan(4000, 20, 1), 0), lengths)
    assert not {frozenset(window) for window in first} & {frozenset(window) for window in second}


def test_equal_lengths_give_a_random_order() -> None:
    windows = windows_of(BucketedPlan([7] * 300, 8, seed=2), 0)
    assert sorted(itertools.chain(*windows)) == list(range(300))
    assert abs(np.corrcoef(list(itertools.chain(*windows)), np.arange(300))[0, 1]) < 0.2


def test_the_short_window_is_the_last_and_is_not_sorted() -> None:
    lengths = list(range(1, 206))
    last = [BucketedPlan(lengths, 10, seed).window(0, 20).tolist() for seed in range(8)]
    assert {len(window) for window in last} == {5}
    assert any(window != sorted(window) for window in last)
    assert len({index for window in last for index in window}) > 20, "another remainder each time"


@pytest.mark.parametrize(
    ("epoch", "number", "expected"),
    [(0, 0, [8, 6, 4, 2]), (0, 2, [3, 1]), (1, 1, [0, 9, 6, 2])],
)
def test_golden_order(epoch: int, number: int, expected: list[int]) -> None:
    """Runs that are continued rely on it: it never changes silently."""
    assert BucketedPlan([5, 1, 9, 2, 8, 3, 7, 4, 6, 6], 4, seed=42).window(epoch, number).tolist() == expected
