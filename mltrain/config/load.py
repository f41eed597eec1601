"""From a YAML file and the command line to a checked configuration. Command line beats file beats default."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from mltrain.config.consistency import inconsistencies
from mltrain.config.explain import explain, shown
from mltrain.config.places import Places
from mltrain.config.plain import plain
from mltrain.config.schema import Config
from mltrain.config.suggestions import section_of, suggestion
from mltrain.config.wishes import kinds, wish
from mltrain.config.yaml_file import Path, parse_value, read_yaml
from mltrain.core.errors import ConfigError, DataError, MltrainError

__all__ = ["LoadedConfig", "check_config", "load_config", "name_place", "parse_overrides"]

ConfigClassOf = Callable[[str, Sequence[str]], type[Config]]
"""(task, plugins) -> the configuration class of that task. Raises ConfigError for an unknown task."""


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, where it came from, and what was set by hand."""

    config: Config
    file: FilePath | None
    overrides: dict[str, Any]


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turn `section.key=value` arguments into {"section.key": value}. Of a key that is given twice the last counts."""
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, sign, text = argument.partition("=")
        key = key.strip()
        if not sign or not key or key.startswith("-"):
            raise ConfigError(
                f"cannot read {argument!r}", where="command line", fix="Write section.key=value, or see --help."
            )
        try:
            overrides.pop(key, None)
            overrides[key] = parse_value(text)
        except ConfigError as error:
            raise ConfigError(
                f"cannot read the value {text!r}: {error.what}", where=f"command line, {key}",
                fix="Write it as in a YAML file; a text in quotes.",
            ) from None  # fmt: skip
    return overrides


def load_config(
    file: FilePath, overrides: Mapping[str, Any], class_of: ConfigClassOf, *, task: str | None = None
) -> LoadedConfig:
    """Read, merge and check a configuration.

    Args:
        file: the YAML file.
        overrides: dotted key -> value; beats the file. Of two that overlap the longer key beats the shorter.
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
    by_hand: str = "command line",
) -> LoadedConfig:
    """Merge and check a configuration that is at hand as plain values. See `load_config`."""
    places = Places(file, lines or {}, overrides, by_hand)
    try:
        merged, given = _merge(content, overrides)
        if merged.get("task") is None:
            merged["task"] = task
        root = _class_of(merged, class_of)
    except ConfigError as error:
        if _is_key(error.where):
            error.where = places.of(tuple(str(error.where).split(".")))
        raise
    problems = _unknown_keys(merged, root, (), root, places)
    try:
        config = root.model_validate(merged)
    except ValidationError as error:
        problems = _with_wrong_values(problems, explain(error, root, places))
    else:
        for key, text in inconsistencies(config):
            path = tuple(key.split("."))
            problems[path] = f"{places.of(path)}: {text}"
    if problems:
        raise ConfigError("not valid", problems=[problems[path] for path in sorted(problems, key=places.order)])
    return LoadedConfig(config, file, given)


def name_place(
    error: MltrainError, file: FilePath | None, overrides: Mapping[str, Any], *, by_hand: str = "command line"
) -> None:
    """Give an error that names a key of the configuration the file and line, or the command line, of that key."""
    if isinstance(error, DataError) or not _is_key(error.where):  # a data folder may be called as a section is
        return
    try:
        lines = read_yaml(file)[1] if file is not None else {}
    except ConfigError:
        return
    places, path = Places(file, lines, overrides, by_hand), tuple(str(error.where).split("."))
    if places.on_command_line(path) or path[:1] in lines:
        error.where = places.of(path)


def _is_key(where: str | None) -> bool:
    return where is not None and where.split(".")[0] in Config.model_fields


def _merge(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content with the overrides in it, and the overrides; both made plain."""
    merged: dict[str, Any] = plain(content)
    given = {key: plain(value, tuple(key.split("."))) for key, value in overrides.items()}
    for key in sorted(given, key=lambda key: key.count(".")):
        _set(merged, key, copy.deepcopy(given[key]))
    return merged, given


def _with_wrong_values(unknown: dict[Path, str], wrong: dict[Path, str]) -> dict[Path, str]:
    """Return both kinds of problems, without those that follow from a key that was misspelt."""
    sections = {path[:-1] for path in unknown}
    kept = {
        path: line
        for path, line in wrong.items()
        if path not in unknown and not (path[:-1] in sections and ": is missing." in line)
    }
    return {**unknown, **kept}


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    parts = key.split(".")
    if not all(part.strip() for part in parts):
        raise ConfigError(f"{key!r} is not a key", where="command line", fix="Write section.key=value.")
    place = content
    for length, part in enumerate(parts[:-1], start=1):
        inner = place.get(part)
        if inner is None:
            inner = place[part] = {}
        if not isinstance(inner, dict):
            outer = ".".join(parts[:length])
            raise ConfigError(f"{outer} is {shown(inner)} and holds no keys", where=key, fix="Check the key.")
        place = inner
    place[parts[-1]] = value


def _class_of(merged: Mapping[str, Any], class_of: ConfigClassOf) -> type[Config]:
    """Return the configuration class of the task, once what that takes is known to be sound."""
    task, plugins = merged["task"], merged.get("plugins", [])
    if task is None:
        raise ConfigError("is missing", where="task", fix="Add a line such as: task: image_classification")
    if not isinstance(task, str):
        raise ConfigError(f"must be a text, is {shown(task)}", where="task", fix="Write: task: image_classification")
    if not isinstance(plugins, list) or not all(isinstance(plugin, str) for plugin in plugins):
        example = plugins if isinstance(plugins, str) else "my_task.py"
        raise ConfigError(
            f"must be a list of Python files, is {shown(plugins)}", where="plugins", fix=f"Write: plugins: [{example}]"
        )
    return class_of(task, plugins)


def _unknown_keys(
    content: Mapping[str, Any], section: type[BaseModel], path: Path, root: type[BaseModel], places: Places
) -> dict[Path, str]:
    problems: dict[Path, str] = {}
    for key, value in content.items():
        field, here = section.model_fields.get(key), (*path, key)
        if field is None:
            prefix = "".join(f"{part}." for part in path)
            problems[here] = f"{places.of(here)}: unknown key. {suggestion(root, section, prefix, key)}"
        elif isinstance(value, Mapping) and value:
            inner = section_of(field.annotation)
            if inner is not None:
                problems |= _unknown_keys(value, inner, here, root, places)
            elif not {dict, Any} & kinds(field.annotation):
                below = (*here, next(iter(value)))
                problems[here] = f"{places.of(below)}: {key} holds no keys. It must be {wish(field.annotation, field)}."
    return problems
