"""A length of time: as people write it, in seconds, or one line of what it must be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.config.duration import duration_text, parse_duration
from mltrain.config.training import TrainingSection


@pytest.mark.parametrize(
    ("given", "seconds", "text"),
    [
        ("30m", 1800, "30m"),
        ("5h30m", 19800, "5h30m"),
        ("1d", 86400, "1d"),
        ("1d 2h", 93600, "1d2h"),
        ("90s", 90, "1m30s"),
        ("1.5H", 5400, "1h30m"),
        ("01:30:00", 5400, "1h30m"),
        ("100:00:00", 360000, "4d4h"),
        (90, 90, "1m30s"),
        (0.5, 0.5, "0.5s"),
    ],
)
def test_lengths_of_time(given: Any, seconds: float, text: str) -> None:
    assert TrainingSection(max_time=given).max_time == seconds
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    "given", ["", "90", "1:30", "01:60:00", "-5m", "m", "1h1h", "1m1h", 0, -1, True, [1], float("nan"), float("inf")]
)
def test_what_is_none_is_told_in_one_line(given: Any) -> None:
    with pytest.raises(ValueError, match="must be a length of time above 0, such as 30m, 5h30m, 1d, 90s") as raised:
        TrainingSection(max_time=given)
    assert raised.value.error_count() == 1  # type: ignore[attr-defined]


@given(st.integers(1, 10**9))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert parse_duration(duration_text(seconds)) == seconds
