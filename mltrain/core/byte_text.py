"""Sizes in bytes as people read them."""

from __future__ import annotations

__all__ = ["byte_text"]


def byte_text(count: float) -> str:
    """Return a size in the largest fitting unit: `1.5 GiB`, `64 MiB`, `3 KiB`, `80 B`."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{f'{count / size:.1f}'.removesuffix('.0')} {unit}"
    return f"{count:.0f} B"
