"""Of two classes, the one that figures are of."""

from __future__ import annotations

from collections.abc import Sequence

from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest

__all__ = ["check_positive_class"]

_KEY = "data.positive_class"


def check_positive_class(wish: str | None, classes: Sequence[str]) -> None:
    """Raise ConfigError where the class that precision, recall and F1 are to be of is none of two."""
    if wish is None:
        return
    if wish not in classes:
        close = nearest(wish, list(classes))
        raise ConfigError(
            f"is {wish!r}, which is no class of the data",
            where=_KEY,
            fix=f"Did you mean {close!r}?" if close else f"Set it to one of: {', '.join(classes[:5])}.",
        )
    if len(classes) != 2:
        raise ConfigError(
            f"is set, but there are {len(classes)} classes: their figures are means over all of them",
            where=_KEY,
            fix="Leave it out.",
        )
