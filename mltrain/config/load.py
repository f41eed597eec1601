"""From a YAML file and the command line to a checked configuration. Command line beats file beats default."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from mltrain.config.schema import Config
from mltrain.config.suggestions import section_of, suggestion
from mltrain.config.yaml_file import Path, parse_value, read_yaml
from mltrain.core.errors import ConfigError

__all__ = ["LoadedConfig", "check_config", "load_config", "parse_overrides"]

ConfigClassOf = Callable[[str, Sequence[str]], type[Config]]
"""(task, plugins) -> the configuration class of that task. Raises ConfigError for an unknown task."""


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, where it came from, and what was set by hand."""

    config: Config
    file: FilePath | None
    overrides: dict[str, Any]


@dataclass(frozen=True)
class _Source:
    """Where each key came from."""

    file: FilePath | None
    lines: Mapping[Path, int]
    overrides: Mapping[str, Any]

    def place(self, path: Path) -> str:
        dotted = ".".join(map(str, path))
        for key in self.overrides:
            if dotted == key or dotted.startswith(f"{key}."):
                return f"command line, {dotted}"
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.file}:{self.lines[path[:length]]}, {dotted}"
        return f"{self.file}, {dotted}" if self.file else dotted


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn `section.key=value` arguments into {"section.key": value}."""
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        if not sign or not key or key.startswith("-"):
            raise ConfigError(
                f"cannot read {argument!r}", where="command line", fix="Write section.key=value, or see --help."
            )
        try:
            overrides[key.strip()] = parse_value(text)
        except Exception:
            raise ConfigError(
                f"cannot read the value of {key!r}", where="command line", fix="Write it as in a YAML file, in quotes."
            ) from None
    return overrides


def load_config(
    file: FilePath, overrides: Mapping[str, Any], class_of: ConfigClassOf, *, task: str | None = None
) -> LoadedConfig:
    """Read, merge and check a configuration.

    Args:
        file: the YAML file.
        overrides: dotted key -> value; beats the file.
        class_of: gives the configuration class of a task (tasks bring their own `data` and `model` sections).
        task: the task when the file has none.

    Raises:
        ConfigError: one problem a line, each with its place and what to do.
    """
    content, lines = read_yaml(file)
    return check_config(content, overrides, class_of, file=file, lines=lines, task=task)


def check_config(
    content: Mapping[str, Any],
    overrides: Mapping[str, Any],
    class_of: ConfigClassOf,
    *,
    file: FilePath | None = None,
    lines: Mapping[Path, int] | None = None,
    task: str | None = None,
) -> LoadedConfig:
    """Merge and check a configuration that is at hand as plain values. See `load_config`."""
    merged: dict[str, Any] = copy.deepcopy(dict(content))
    source = _Source(file, lines or {}, overrides)
    for key, value in overrides.items():
        _set(merged, key, copy.deepcopy(value), source)
    name, plugins = merged.setdefault("task", task), merged.get("plugins") or []
    if not isinstance(name, str):
        raise ConfigError(
            "task is missing", where=str(file or "config"), fix="Add a line such as: task: image_classification"
        )
    root = class_of(name, [plugin for plugin in plugins if isinstance(plugin, str)])
    problems = _unknown_keys(merged, root, (), root, source)
    if not problems:
        try:
            return LoadedConfig(root.model_validate(merged), file, dict(overrides))
        except ValidationError as error:
            problems = [_explain(detail, source) for detail in error.errors(include_url=False)]
    raise ConfigError(problems[0], problems=problems)


def _set(content: dict[str, Any], key: str, value: Any, source: _Source) -> None:
    parts = key.split(".")
    place = content
    for part in parts[:-1]:
        inner = place.get(part)
        if inner is None:
            inner = place[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{part} is not a section", where=source.place((key,)), fix="Check the key.")
        place = inner
    place[parts[-1]] = value


def _unknown_keys(
    content: Mapping[Any, Any], section: type[BaseModel], path: Path, root: type[BaseModel], source: _Source
) -> list[str]:
    problems = []
    for key, value in content.items():
        field = section.model_fields.get(str(key))
        here = (*path, str(key))
        if field is None:
            prefix = "".join(f"{part}." for part in path)
            problems.append(f"{source.place(here)}: unknown key. {suggestion(root, section, prefix, str(key))}")
            continue
        inner = section_of(field.annotation)
        if inner is not None and isinstance(value, Mapping):
            problems += _unknown_keys(value, inner, here, root, source)
    return problems


def _explain(detail: Any, source: _Source) -> str:
    """Turn one pydantic finding into a line for people."""
    # A choice of types adds the type's name to the location; a key of ours never looks like one of those.
    path = tuple(part for part in detail["loc"] if not str(part).startswith(("literal[", "constrained-", "function-")))
    while path and path[-1] in ("int", "float", "str", "bool"):
        path = path[:-1]
    given, context = detail["input"], detail.get("ctx", {})
    if detail["type"] == "missing":
        return f"{source.place(path[:-1] or path)}: {'.'.join(map(str, path))} is missing. Add it."
    if detail["type"] == "value_error":
        return f"{source.place(path) if path else source.file or 'config'}: {context['error']}."
    wish = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    hint = ""
    if detail["type"] == "literal_error" and isinstance(given, str):
        options = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        close = difflib.get_close_matches(given, options, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{source.place(path)}: must be {wish}, is {given!r}.{hint}"
