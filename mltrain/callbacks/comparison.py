"""Whether one value of a metric is better than another."""

from __future__ import annotations

import math

__all__ = ["is_better"]


def is_better(value: float, than: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Return whether `value` beats `than` by more than `min_delta`.

    Anything finite beats None. NaN and infinity beat nothing: they rank no epoch, and JSON could not hold them.
    """
    if not math.isfinite(value):
        return False
    if than is None:
        return True
    return value < than - min_delta if mode == "min" else value > than + min_delta
