"""Numbers of things as people read them."""

from __future__ import annotations

__all__ = ["count_text"]


def count_text(count: int, thing: str) -> str:
    """Return a number and its thing: `0 workers`, `1 process`, `2 processes`, `1,024 batches`."""
    ending = "" if count == 1 else "es" if thing.endswith(("s", "ch")) else "s"
    return f"{count:,} {thing}{ending}"
