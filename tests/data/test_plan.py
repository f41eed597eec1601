"""The plan: every sample once an epoch, the same for every cut; golden orders, so that it never changes silently."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.data.plan import Cut, OrderedPlan, Position, ShuffledPlan

sizes = st.integers(1, 300)


@settings(max_examples=100, deadline=None)
@given(samples=sizes, window=st.integers(1, 64), seed=st.integers(0, 2**62), epoch=st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once(samples: int, window: int, seed: int, epoch: int) -> None:
    plan = ShuffledPlan(samples, window, seed)
    windows = [plan.window(epoch, number) for number in range(plan.windows_per_epoch)]
    assert sorted(np.concatenate(windows).tolist()) == list(range(samples))
    assert all(len(part) == window for part in windows[:-1])
    assert 0 < len(windows[-1]) <= window


@settings(max_examples=100, deadline=None)
@given(samples=sizes, batch=st.integers(1, 9), processes=st.integers(1, 5), accumulation=st.integers(1, 4))
def test_ranks_and_microbatches_divide_a_window(samples: int, batch: int, processes: int, accumulation: int) -> None:
    plan = ShuffledPlan(samples, batch * processes * accumulation, seed=3)
    for number in range(plan.windows_per_epoch):
        window = plan.window(0, number)
        shares = [Cut(rank, processes, batch).share(window) for rank in range(processes)]
        own = [share for share in shares if not share.filler]
        assert np.array_equal(np.concatenate([part for share in own for part in share.microbatches]), window)
        assert all(share.num_examples == len(window) for share in shares)
        for share in shares:
            assert 1 <= len(share.microbatches) <= accumulation
            assert all(1 <= len(part) <= batch for part in share.microbatches)
        lengths = [0 if share.filler else sum(map(len, share.microbatches)) for share in shares]
        assert max(lengths) - min(lengths) <= 1


@settings(max_examples=200, deadline=None)
@given(
    samples=sizes,
    group=st.integers(1, 4),
    groups=st.integers(1, 5),
    processes=st.integers(1, 5),
    accumulation=st.integers(1, 4),
)
def test_no_cut_separates_a_group(samples: int, group: int, groups: int, processes: int, accumulation: int) -> None:
    batch = group * groups
    plan = ShuffledPlan(samples, batch * processes * accumulation, seed=3)
    for number in range(plan.windows_per_epoch):
        window = plan.window(0, number).tolist()
        whole = [window[start : start + group] for start in range(0, len(window), group)]
        shares = [Cut(rank, processes, batch, group).share(plan.window(0, number)) for rank in range(processes)]
        found = []
        for share in shares:
            assert 1 <= len(share.microbatches) <= accumulation
            assert share.num_examples == len(window)
            for part in share.microbatches:
                assert 1 <= len(part) <= batch
                if not share.filler:
                    found += [part[start : start + group].tolist() for start in range(0, len(part), group)]
        assert found == whole


@settings(max_examples=200, deadline=None)
@given(samples=sizes, group=st.integers(1, 3), groups=st.integers(1, 4), processes=st.integers(1, 5))
def test_ranks_in_step_have_as_many_microbatches_and_count_the_same(
    samples: int, group: int, groups: int, processes: int
) -> None:
    window = np.arange(samples)
    for rank in range(processes):
        plain, in_step = (
            Cut(rank, processes, group * groups, group, in_step=wish).share(window) for wish in (False, True)
        )
        largest = Cut(0, processes, group * groups, group).share(window)
        assert len(in_step.microbatches) == len(largest.microbatches)
        assert in_step.num_own == plain.num_own
        own = zip(in_step.microbatches[: plain.num_own], plain.microbatches, strict=False)
        assert all(np.array_equal(mine, theirs) for mine, theirs in own)


def test_microbatches_must_hold_whole_groups() -> None:
    with pytest.raises(ValueError, match="microbatches of 5 cannot hold whole groups of 2"):
        Cut(0, 1, 5, group_size=2)


def test_order_does_not_depend_on_the_window_size() -> None:
    small, large = ShuffledPlan(100, 8, seed=7), ShuffledPlan(100, 32, seed=7)
    for epoch in range(3):
        orders = [
            np.concatenate([plan.window(epoch, n) for n in range(plan.windows_per_epoch)]) for plan in (small, large)
        ]
        assert np.array_equal(*orders)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(ShuffledPlan(50, 50, seed).window(epoch, 0).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_golden_order() -> None:
    assert ShuffledPlan(10, 10, seed=42).window(0, 0).tolist() == GOLDEN[0]
    assert ShuffledPlan(10, 10, seed=42).window(1, 0).tolist() == GOLDEN[1]


GOLDEN = ([9, 8, 6, 5, 7, 4, 2, 0, 3, 1], [9, 2, 1, 5, 6, 3, 7, 0, 8, 4])


def test_evaluation_keeps_the_order() -> None:
    plan = OrderedPlan(10, 4)
    assert [plan.window(0, number).tolist() for number in range(plan.windows_per_epoch)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9],
    ]


def test_position_moves() -> None:
    position = Position().after_step().after_step()
    assert position == Position(epoch=0, window=2, step=2)
    assert position.next_epoch() == Position(epoch=1, window=0, step=2)
