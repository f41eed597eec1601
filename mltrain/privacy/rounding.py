"""Figures of privacy, shortened so that no claim gets smaller."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Decimal

__all__ = ["rounded_up", "shown_up"]


def rounded_up(value: float, digits: int = 4) -> float:
    """Return the least number of so many decimal digits that is not below a value, which is 0 or more."""
    if value == 0 or not math.isfinite(value):
        return value
    exact = Decimal(repr(float(value)))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), ROUND_CEILING))


def shown_up(value: float, digits: int = 4) -> str:
    """Return a value that is rounded up to so many decimal digits, as text."""
    return f"{rounded_up(value, digits):.{digits}g}"
