"""Which rows of a table stay on one side of a split: those of equal content, and those of one group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["RowUnit", "row_units"]


class RowUnit(NamedTuple):
    """What a row stays together with.

    digest: of its content, and of its stratum where rows of equal content are in several: equal for copies alone.
    group: name of a larger unit; None where rows of equal digest are all that there is.
    """

    digest: str
    group: str | None


def row_units(contents: Sequence[str], strata: Sequence[str], groups: Sequence[str] | None) -> list[RowUnit]:
    """Return the unit of each row.

    Rows of equal content may be in several strata: a text that two people have labelled differently, say. They are no
    copies then, but stay on one side all the same.

    Args:
        contents: digest of what each row holds.
        strata: stratum of each row.
        groups: what else must stay together; None: nothing.
    """
    first: dict[str, str] = {}
    divided = {c for c, stratum in zip(contents, strata, strict=True) if first.setdefault(c, stratum) != stratum}
    if groups is None and not divided:
        return [RowUnit(content, None) for content in contents]
    digests = [
        _joined(content, stratum) if content in divided else content
        for content, stratum in zip(contents, strata, strict=True)
    ]
    if groups is None:
        return [RowUnit(digest, content) for digest, content in zip(digests, contents, strict=True)]
    roots = _Roots()
    for content, group in zip(contents, groups, strict=True):
        roots.join(f"content {content}", f"group {group}")
    return [RowUnit(digest, roots.of(f"content {content}")) for digest, content in zip(digests, contents, strict=True)]


class _Roots:
    """Names joined into sets; each set is called by one of its names."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Return what the set of a name is called."""
        while (above := self._above.setdefault(name, name)) != name:
            self._above[name] = name = self._above[above]
        return name

    def join(self, one: str, other: str) -> None:
        """Join the sets of two names."""
        self._above[self.of(one)] = self.of(other)


def _joined(content: str, stratum: str) -> str:
    return hashlib.blake2b(f"{content}\0{stratum}".encode(), digest_size=20).hexdigest()
