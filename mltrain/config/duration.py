"""A length of time in the configuration: `30m`, `5h30m`, `1d`, `90s`, `01:30:00`, or a number of seconds."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from mltrain.config.explain import shown

__all__ = ["Duration", "duration_text", "parse_duration"]

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WITH_UNITS = re.compile("".join(rf"(?:(?P<{unit}>[0-9]+(?:\.[0-9]+)?){unit} ?)?" for unit in _UNITS))
_CLOCK = re.compile(r"(?P<h>[0-9]+):(?P<m>[0-5][0-9]):(?P<s>[0-5][0-9])")


def parse_duration(value: Any) -> float:
    """Return a length of time in seconds.

    Raises:
        ValueError: it is none, or not above 0.
    """
    seconds = 0.0
    if isinstance(value, str) and value:
        found = _CLOCK.fullmatch(value.strip()) or _WITH_UNITS.fullmatch(value.strip().lower())
        if found is not None:
            seconds = sum(float(number) * _UNITS[unit] for unit, number in found.groupdict("0").items())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if not 0 < seconds < math.inf:
        raise ValueError(
            "must be a length of time above 0, such as 30m, 5h30m, 1d, 90s, 01:30:00 or a number of seconds, "
            f"is {shown(value)}"
        )
    return seconds


def duration_text(seconds: float) -> str:
    """Return seconds as people write them: `5h30m`."""
    whole, parts = int(seconds), []
    for unit, length in _UNITS.items():
        count, whole = divmod(whole, length)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) if seconds == int(seconds) else f"{seconds:g}s"


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds, above 0; may be written as `parse_duration` reads it."""
