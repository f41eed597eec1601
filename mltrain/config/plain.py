"""Values that a file can hold, and nothing else: what a run saves of its configuration must read back as it was."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from mltrain.config.places import dotted
from mltrain.config.yaml_file import Path
from mltrain.core.errors import ConfigError

__all__ = ["plain"]


def plain(value: Any, path: Path = ()) -> Any:
    """Return a copy made of dicts, lists, texts, finite numbers, booleans and None.

    Tuples become lists, paths texts, numbers of NumPy those of Python. Raises ConfigError for anything else.
    """
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _text(str.__str__(value), path)
    if isinstance(value, int):
        if abs(int(value)) > 2**64:
            raise ConfigError("a whole number of more than 64 bits", where=dotted(path), fix="Write a smaller one.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"must be finite, is {value}", where=dotted(path), fix="Write a finite number.")
        return float(value)
    raise ConfigError(
        f"holds a {type(value).__name__}, which no file can hold", where=dotted(path), fix="Give a plain value."
    )


def _text(text: str, path: Path) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{text!r} is not valid Unicode", where=dotted(path), fix="Rename it.") from None
    if "\0" in text:
        raise ConfigError(f"{text!r} holds a zero byte", where=dotted(path), fix="Remove it.")
    return text
