"""Overrides from Python: nested as the configuration is, or with dotted keys, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["dotted_overrides"]


def dotted_overrides(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides with dotted keys only: {"training": {"batch_size": 8}} becomes {"training.batch_size": 8}.

    So a section that is given beats the keys that it names and leaves the others as they are. A value of `content`
    that is no section is replaced whole, and so is anything by an empty mapping.
    """
    return {key: value for name, given in overrides.items() for key, value in _leaves(content, str(name), given)}


def _leaves(content: Mapping[str, Any], key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value or not _is_section(content, key) or _has_dotted_name(value):
        yield key, value
        return
    for name, inner in value.items():
        yield from _leaves(content, f"{key}.{name}", inner)


def _is_section(content: Any, key: str) -> bool:
    """Return whether what the content has under a key, if anything, holds keys itself."""
    for part in key.split("."):
        if content is None:
            return True
        if not isinstance(content, Mapping):
            return False
        content = content.get(part)
    return content is None or isinstance(content, Mapping)


def _has_dotted_name(value: Mapping[str, Any]) -> bool:
    # Free labels may hold dots; they are no path then.
    return any("." in str(name) for name in value)
