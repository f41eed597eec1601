"""What a run was asked for, before it is checked: a configuration, what beats it, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from mltrain.config.load import LoadedConfig, check_config
from mltrain.config.overrides import dotted_overrides
from mltrain.config.yaml_file import Path as Key
from mltrain.config.yaml_file import read_yaml
from mltrain.core.errors import ConfigError
from mltrain.tasks.base import task_config_class

__all__ = ["ConfigLike", "Request", "as_path", "read_request"]

ConfigLike = str | PathLike[str] | Mapping[str, Any]
"""A YAML file, or what it would hold."""


@dataclass(frozen=True)
class Request:
    """A configuration as it was given.

    Attributes:
        content: the keys of the file, or of the dict.
        overrides: dotted key -> value; beats the content.
        file: the YAML file, if there is one.
        lines: the line of each key in the file.
        by_hand: what the overrides are called in errors.
    """

    content: Mapping[str, Any]
    overrides: Mapping[str, Any]
    file: Path | None
    lines: Mapping[Key, int]
    by_hand: str

    def load(self) -> LoadedConfig:
        """Return the checked configuration; raises ConfigError, a line for each problem."""
        return check_config(
            self.content, self.overrides, task_config_class, file=self.file, lines=self.lines, by_hand=self.by_hand
        )


def read_request(config: ConfigLike, overrides: Mapping[str, Any] | None, *, by_hand: str) -> Request:
    """Read the configuration; raises ConfigError where it cannot be read, or something of another kind was given."""
    if overrides is not None and not isinstance(overrides, Mapping):
        raise _wrong_kind("overrides", overrides, 'a dict such as {"training.num_epochs": 3}')
    if isinstance(config, Mapping):
        content = {key: value for key, value in config.items() if "." not in str(key)}
        dotted = {key: value for key, value in config.items() if key not in content}
        return Request(content, dotted_overrides(content, {**dotted, **(overrides or {})}), None, {}, by_hand)
    file = as_path("config", config, "the path of a YAML file, or a dict")
    content, lines = read_yaml(file)
    return Request(content, dotted_overrides(content, overrides or {}), file, lines, by_hand)


def as_path(name: str, given: Any, wish: str = "a path") -> Path:
    """Return an argument as a path; raises ConfigError for anything else."""
    if not isinstance(given, str | PathLike):
        raise _wrong_kind(name, given, wish)
    return Path(fspath(given))


def _wrong_kind(name: str, given: Any, wish: str) -> ConfigError:
    text = repr(given)
    shown = text if len(text) <= 60 and "\n" not in text else f"a {type(given).__name__}"
    return ConfigError(f"must be {wish}, is {shown}", where=name, fix="Give it so.")
