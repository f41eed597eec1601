"""What a launch makes of the exit codes of its ranks."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.workflows.launch_codes import Ending, RankEnd, ending, forbids_restart, may_restart, reason

CODES = st.sampled_from([0, 1, 2, 3, 75, 130, 143, -9, -11, -15])


def ends(*codes: int, stopped: tuple[int, ...] = ()) -> list[RankEnd]:
    """Ranks that ended with these codes, one after the other."""
    return [RankEnd(rank, rank // 2, code, float(rank), rank in stopped) for rank, code in enumerate(codes)]


@pytest.mark.parametrize(
    ("codes", "stopped", "expected"),
    [
        ((0, 0), (), False),
        ((75, -9), (), True),
        ((1, 75), (), True),
        ((75, -9), (1,), True),
        ((2, 2), (), False),
        ((75, 2), (), False),
        ((2, -9), (), False),
        ((143, 143), (), False),
        ((143, -9), (), False),
        ((75, 143), (1,), True),
        ((3, 75), (), False),
        ((-9, -9), (0, 1), False),
    ],
)
def test_restarts_follow_from_all_codes(codes: tuple[int, ...], stopped: tuple[int, ...], expected: bool) -> None:
    assert may_restart(ends(*codes, stopped=stopped)) is expected


@pytest.mark.parametrize(
    ("codes", "stopped", "received", "code", "text"),
    [
        ((0, 0), (), None, 0, None),
        ((0, 0), (), 15, 0, None),
        ((143, 143), (), None, 143, None),
        ((143, 143), (), 15, 143, None),
        ((143, -15), (), 15, 143, None),
        ((-2, -2), (), 2, 130, None),
        ((-9, -9), (0, 1), 15, 143, None),
        ((143, 143), (), 1, 129, None),
        ((75, -9), (1,), 15, 143, None),
        ((2, 2), (), None, 2, None),
        ((2, 75), (), None, 2, None),
        ((75, 2), (), None, 2, "rank 1: no such file"),
        ((75, -9), (), None, 75, "rank 1 was killed by SIGKILL (most often for want of memory). Go on."),
        ((-15, -11), (0,), None, 75, "rank 1 was killed by SIGSEGV. Go on."),
        ((75, -9), (1,), None, 75, "rank 1 gave no answer to the others and was stopped. Go on."),
        ((75, 1), (), None, 1, "rank 1 ended with exit code 1; its own error is above. Go on."),
        ((75, 75), (), None, 75, "rank 0 lost the others. Go on."),
        ((143, 1), (), 15, 1, "rank 1 ended with exit code 1; its own error is above. Go on."),
    ],
)
def test_the_end_is_told_once(
    codes: tuple[int, ...], stopped: tuple[int, ...], received: int | None, code: int, text: str | None
) -> None:
    found = ending(ends(*codes, stopped=stopped), received=received, errors={1: "no such file"}, continued="Go on.")
    assert found == Ending(code, text)


def test_a_machine_that_is_cut_off_is_named() -> None:
    found = ending(ends(75), received=None, machines=2, missing={1}, continued="Go on.")
    assert found == Ending(75, "machine 1 does not answer any more. Go on.")
    assert ending(ends(-9, stopped=(0,)), received=None, machines=2, missing={1}, continued="Go on.") == found
    assert ending(ends(0), received=None, machines=2, missing={1}) == Ending(0)


def test_a_rank_has_its_machine_where_there_are_several() -> None:
    assert reason(ends(75, 75, -9, 75), machines=2).startswith("rank 2 on machine 1 was killed by SIGKILL")


def test_of_two_deaths_the_first_is_named() -> None:
    late, early = RankEnd(0, 0, -9, 2.0), RankEnd(1, 0, -11, 1.0)
    assert reason([late, early]) == "rank 1 was killed by SIGSEGV"


@given(
    st.lists(st.tuples(CODES, st.booleans()), min_size=1, max_size=8),
    st.sampled_from([None, signal.SIGINT, signal.SIGTERM]),
    st.sampled_from([(), (1,)]),
)
def test_a_failure_never_ends_with_zero_and_success_never_with_another(
    codes: list[tuple[int, bool]], received: int | None, missing: tuple[int, ...]
) -> None:
    all_ends = ends(*(code for code, _ in codes), stopped=tuple(i for i, (_, stopped) in enumerate(codes) if stopped))
    found = ending(all_ends, received=received, machines=2, missing=missing)
    assert (found.code == 0) == all(code == 0 for code, _ in codes)
    assert found.code in {0, 1, 2, 75} or 128 < found.code < 193
    assert not (may_restart(all_ends) and forbids_restart(all_ends))
