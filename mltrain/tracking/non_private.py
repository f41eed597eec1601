"""Which logged values no privacy guarantee covers: patterns of names, as a trainer states them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

__all__ = ["NON_PRIVATE", "matcher", "not_private_text"]

NON_PRIVATE = "non_private"
"""Key of a record in `metrics.jsonl`, and of `summary.json`, that says what is not private."""


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return what tells whether a name is not private.

    Args:
        patterns: "*" stands for any characters; "!" before a pattern takes names out again; the last match counts.
    """
    rules = [(not pattern.startswith("!"), _expression(pattern.removeprefix("!"))) for pattern in reversed(patterns)]

    @lru_cache(maxsize=10_000)
    def is_non_private(name: str) -> bool:
        return next((listed for listed, expression in rules if expression.fullmatch(name)), False)

    return is_non_private


def not_private_text(patterns: Sequence[str]) -> str:
    """Return the patterns for people: "*, but not train/lr, privacy/*"."""
    listed = ", ".join(pattern for pattern in patterns if not pattern.startswith("!"))
    excepted = ", ".join(pattern[1:] for pattern in patterns if pattern.startswith("!"))
    return f"{listed}, but not {excepted}" if excepted else listed


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
