"""Where a monotone function crosses zero, in few evaluations: one of a privacy accountant may take a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Point", "cross"]


class Point(NamedTuple):
    """A place and the function's value there, which may be infinite."""

    at: float
    value: float


def cross(function: Callable[[float], float], within: Point, beyond: Point, *, resolution: float | None) -> float:
    """Return a place whose value is not above zero, next to one whose value is.

    The Illinois form of regula falsi (Dowell and Jarratt, 1971): the value of an end that stays twice is halved, so
    that it moves too. Every third evaluation, and where a value is infinite, bisection: that bounds their number.

    Args:
        function: its value grows on the way from `within` to `beyond`, which may lie on either side.
        within: a point whose value is at most zero.
        beyond: a point whose value is above zero.
        resolution: distance from the result to a place beyond, at most. None: places are integers, and the result is
            the last one.
    """
    step = 1.0 if resolution is None else resolution / 2
    nearest = 1.0 if resolution is None else resolution
    previous: bool | None = None
    count = 0
    while abs(beyond.at - within.at) > nearest:
        count += 1
        at = (within.at + beyond.at) / 2 if count % 3 == 0 else _between(within, beyond, step)
        if resolution is None:
            at = round(at)
        point = Point(at, function(at))
        is_within = point.value <= 0
        if is_within:
            within, beyond = point, _halved(beyond) if previous is True else beyond
        else:
            within, beyond = _halved(within) if previous is False else within, point
        previous = is_within
    return within.at


def _halved(point: Point) -> Point:
    return point._replace(value=point.value / 2)


def _between(within: Point, beyond: Point, step: float) -> float:
    """Return where a straight line crosses zero, or the middle; at least one `step` from either end."""
    distance = beyond.at - within.at
    share = 0.5
    if math.isfinite(within.value) and math.isfinite(beyond.value):
        share = within.value / (within.value - beyond.value)
    least = step / abs(distance)
    return within.at + min(max(share, least), 1 - least) * distance
