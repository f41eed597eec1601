"""Blocks of a timeline: neighbours of different sides are further apart than the gap, and nothing else is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.core.errors import ConfigError
from mltrain.data.modalities.blocks import TEST, TimeBlocks, assign_sides, least_blocks, least_gap


@st.composite
def timelines(draw: st.DrawFn) -> TimeBlocks:
    block_length = draw(st.integers(2, 30))
    folds = draw(st.integers(1, 5))
    return TimeBlocks(
        first=draw(st.integers(0, 9)),
        last=draw(st.integers(10, 20)) + block_length * draw(st.integers(folds + 6, 40)),
        block_length=block_length,
        gap=draw(st.integers(0, block_length - 1)),
        folds=folds,
        test_share=draw(st.floats(0.05, 0.4)),
        seed=draw(st.integers(0, 2**40)),
    )


@given(timelines(), st.data())
def test_no_two_samples_of_different_sides_are_within_the_gap(blocks: TimeBlocks, data: st.DataObject) -> None:
    splits = blocks.split(data.draw(st.integers(0, blocks.folds - 1)))
    names = list(splits)
    for one, other in [(a, b) for a in names for b in names if a < b]:
        distances = np.abs(splits[one][:, None] - splits[other][None, :])
        assert distances.min(initial=10**9) > blocks.gap


@given(timelines(), st.data())
def test_each_block_lies_on_one_side(blocks: TimeBlocks, data: st.DataObject) -> None:
    block = blocks.block_of()
    splits = blocks.split(data.draw(st.integers(0, blocks.folds - 1)))
    found = [set(block[times - blocks.first].tolist()) for times in splits.values()]
    assert sum(map(len, found)) == len(set().union(*found))
    sizes = np.bincount(block)
    assert len(sizes) == len(blocks)
    assert (sizes >= blocks.block_length / 2).all()
    assert (sizes <= blocks.block_length * 1.5).all()


@given(timelines())
def test_folds_cover_everything_but_the_gaps(blocks: TimeBlocks) -> None:
    splits = [blocks.split(fold) for fold in range(blocks.folds)]
    covered = np.concatenate([splits[0]["test"], *(each["val"] for each in splits)])
    assert len(np.unique(covered)) == len(covered), "no sample is validated twice"
    assert all(np.array_equal(each["test"], splits[0]["test"]) for each in splits)
    left_out = np.setdiff1d(np.arange(blocks.first, blocks.last), covered) - blocks.first
    block = blocks.block_of()
    since_start = left_out - np.searchsorted(block, block[left_out])
    assert (since_start < blocks.gap).all()
    assert (block[left_out] > 0).all(), "the first block follows none"


@given(timelines(), st.data())
def test_within_a_fold_samples_are_left_out_only_where_the_side_changes(
    blocks: TimeBlocks, data: st.DataObject
) -> None:
    fold = data.draw(st.integers(0, blocks.folds - 1))
    splits, block, sides = blocks.split(fold), blocks.block_of(), blocks.sides()
    kept = np.isin(np.arange(blocks.first, blocks.last), np.concatenate(list(splits.values())))
    role = np.where(sides == TEST, "test", np.where(sides == fold, "val", "train"))
    for number in range(len(blocks)):
        flags = kept[block == number]
        changed = number > 0 and role[number] != role[number - 1]
        assert flags.tolist() == [not changed or place >= blocks.gap for place in range(len(flags))]


@given(st.integers(8, 60), st.integers(1, 6), st.integers(0, 2**63 - 1))
def test_sides_are_a_function_of_the_seed(count: int, folds: int, seed: int) -> None:
    sides = assign_sides(count, folds, 0.2, seed)
    assert np.array_equal(sides, assign_sides(count, folds, 0.2, seed))
    sizes = np.bincount(sides[sides != TEST], minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    assert (sides == TEST).sum() == max(1, round(0.2 * count))


@given(st.integers(0, 60), st.integers(1, 6), st.floats(0.01, 0.99))
def test_the_least_blocks_are_just_enough(count: int, folds: int, test_share: float) -> None:
    least = least_blocks(count, folds, test_share)
    for blocks in range(count + 1):
        if blocks >= least:
            assign_sides(blocks, folds, test_share, 0)
        else:
            with pytest.raises(ValueError, match="cannot be divided"):
                assign_sides(blocks, folds, test_share, 0)


def test_another_seed_divides_otherwise() -> None:
    assert len({tuple(assign_sides(30, 5, 0.2, seed)) for seed in range(20)}) == 20


def test_the_test_split_does_not_depend_on_the_folds() -> None:
    tested = [assign_sides(30, folds, 0.2, 7) == TEST for folds in (1, 3, 5)]
    assert np.array_equal(tested[0], tested[1])
    assert np.array_equal(tested[1], tested[2])


def test_the_least_gap_keeps_stimuli_behind_the_last_response() -> None:
    """Of a block that ends before a border, and of one that begins after it and its gap."""
    for delay, window, border in [(0, 1, 10), (3, 1, 10), (1, 5, 10), (4, 3, 50)]:
        last_response = border - 1 + delay
        first_stimulus = border + least_gap(delay, window) - window + 1
        assert first_stimulus == last_response + 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gap": 20}, r"data\.block_length: is 20, of which a gap of 20 leaves nothing. Set it to at least 40"),
        (
            {"gap": 50, "block_length": 50},
            r"data\.block_length: is 50, .* Set it to at least 66, or lower data\.gap",
        ),
        (
            {"gap": 70},
            r"data\.block_length: is 20, of which a gap of 70 leaves nothing\. Lower data\.gap, or data\.folds",
        ),
        ({"last": 90}, r"gives 4 blocks of the 90 samples that can be used, too few: 4 cannot be divided into 5 folds"),
        ({"last": -3}, "gives 0 blocks of the 0 samples"),
    ],
)
def test_what_cannot_be_divided_is_told(changes: dict[str, int], message: str) -> None:
    settings = {"first": 0, "last": 400, "block_length": 20, "gap": 5, "folds": 5, "test_share": 0.2, "seed": 1}
    with pytest.raises(ConfigError, match=message):
        TimeBlocks(**{**settings, **changes})  # type: ignore[arg-type]
