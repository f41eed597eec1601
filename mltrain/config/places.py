"""Where a key was set: the file and its line, or the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from mltrain.config.yaml_file import Path

__all__ = ["Places", "dotted"]

_LAST = 1 << 30


def dotted(path: Path) -> str:
    """Return a key as people write it: `training.batch_size`."""
    return ".".join(map(str, path))


@dataclass(frozen=True)
class Places:
    """Where the keys of one configuration came from.

    Args:
        file: the YAML file, or None for content that is at hand.
        lines: the line of each key of the file.
        overrides: dotted key -> value, set by hand.
        by_hand: what the overrides are called: the command line, or an argument of a Python function.
    """

    file: FilePath | None
    lines: Mapping[Path, int]
    overrides: Mapping[str, Any]
    by_hand: str = "command line"

    def of(self, path: Path) -> str:
        """Return the place of a key, with the key: `x.yaml:3, training.batch_size`."""
        key = dotted(path)
        if self.on_command_line(path):
            return f"{self.by_hand}, {key}"
        if self.file is None:
            return key or "config"
        line = self._line(path)
        place = f"{self.file}:{line}" if line else str(self.file)
        return f"{place}, {key}" if key else place

    def order(self, path: Path) -> int:
        """Return what sorts problems as people meet them: by line, then those of the command line."""
        return _LAST if self.on_command_line(path) else self._line(path) or 0

    def on_command_line(self, path: Path) -> bool:
        """Return whether a key, a section around it, or all there is below it was set on the command line."""
        key, from_file = dotted(path), path in self.lines
        return any(
            key == name or key.startswith(f"{name}.") or (name.startswith(f"{key}.") and not from_file)
            for name in self.overrides
        )

    def _line(self, path: Path) -> int | None:
        """Return the line of a key, or of the nearest section around it that the file has."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None
