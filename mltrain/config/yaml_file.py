"""YAML with the line of every key, numbers as people write them, and repeated keys refused."""

from __future__ import annotations

import re
from pathlib import Path as FilePath
from typing import Any

import yaml

from mltrain.core.errors import ConfigError

__all__ = ["Path", "dump_yaml", "parse_value", "read_yaml"]

Path = tuple[str | int, ...]
"""A key's place in the configuration: ("training", "batch_size")."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads `1e-3` as a number, as YAML 1.2 does and YAML 1.1 does not."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$|^[-+]?\.\d[\d_]*([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def read_yaml(path: FilePath) -> tuple[dict[str, Any], dict[Path, int]]:
    """Return the content of a YAML file and the line (from 1) of each of its keys."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), fix="Check --config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({error})", where=str(path), fix="Check --config.") from None
    loader = _Loader(text)
    lines: dict[Path, int] = {}
    try:
        node = loader.get_single_node()
        if node is None or not isinstance(node, yaml.MappingNode):
            raise ConfigError("must hold keys and values", where=str(path), fix="Start from a file of configs/.")
        _record_lines(node, (), lines, path)
        content: dict[str, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_problem(error), where=_yaml_place(error, path), fix="Mend the YAML there.") from None
    finally:
        loader.dispose()
    return content, lines


def parse_value(text: str) -> Any:
    """Read one value as it would be read from a file: `0.1`, `true`, `null`, `[1, 2]`, `text`."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only


def dump_yaml(content: dict[str, Any]) -> str:
    """Return the content as YAML text, keys in the order given."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _record_lines(node: yaml.Node, path: Path, lines: dict[Path, int], file: FilePath) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, key.value)
            line = key.start_mark.line + 1
            if place in lines:
                raise ConfigError(
                    f"{'.'.join(map(str, place))} stands here and in line {lines[place]}",
                    where=f"{file}:{line}",
                    fix="Keep one of them.",
                )
            lines[place] = line
            _record_lines(value, place, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, index)] = value.start_mark.line + 1
            _record_lines(value, (*path, index), lines, file)


def _yaml_problem(error: yaml.YAMLError) -> str:
    return f"not valid YAML ({getattr(error, 'problem', None) or error})"


def _yaml_place(error: yaml.YAMLError, path: FilePath) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}:{mark.line + 1}" if mark else str(path)
