"""Class names that people would read as one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from mltrain.data.image_files import first_few

__all__ = ["alike_classes"]


def alike_classes(names: Iterable[str]) -> list[str]:
    """Return a sentence on each set of classes that differ only in case, blanks or the form of their characters."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    sets = {first_few([f"'{name}'" for name in group]): len(group) for group in alike.values() if len(group) > 1}
    return [
        f"The classes {shown} look alike and are learned as {count}. If they are one, give them one name."
        for shown, count in sets.items()
    ]
