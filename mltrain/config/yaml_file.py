"""YAML with the line of every key, numbers as people write them, and repeated keys refused.

Read are null, true and false, numbers, texts, lists and keys with values; anchors and merges (`<<`) too. A date is a
text here, `1e-3` a number, `010` ten, and a key is always a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import yaml

from mltrain.core.errors import ConfigError

__all__ = ["Path", "dump_yaml", "parse_value", "read_yaml"]

Path = tuple[str | int, ...]
"""A key's place in the configuration: ("training", "batch_size")."""

_TAG = "tag:yaml.org,2002:"
_MOST_PLACES = 100_000

_FLOAT = re.compile(
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_INT = re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F_]*[0-9a-fA-F]|0o[0-7_]*[0-7]")
_BOOL = re.compile(r"(?i:true|false|yes|no|on|off)")
_NULL = re.compile(r"~|null|Null|NULL|")


class _Loader(yaml.SafeLoader):
    """Reads text into nodes; this module makes values of them."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (yaml's own attribute, filled below)


class _Dumper(yaml.SafeDumper):
    """Puts in quotes what this module, or YAML as others read it, would take for something else than a text."""


_RESOLVED = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT, "merge": re.compile("<<")}
for _kind, _pattern in _RESOLVED.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern.pattern})\Z"), None)


def _quoted_where_odd(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes some line separators as they are, and reads them as a space.
    return dumper.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _quoted_where_odd)


def read_yaml(
    path: FilePath, *, flag: str = "--config", examples: str = "configs/"
) -> tuple[dict[str, Any], dict[Path, int]]:
    """Return the content of a YAML file and the line (from 1) of each of its keys.

    Args:
        path: the file.
        flag: what named it.
        examples: folder of good ones.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), fix=f"Check {flag}.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("is not a UTF-8 text", where=f"{path}:{line}", fix="Save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot be read ({reason})", where=str(path), fix=f"Check {flag}.") from None
    values = _Values()
    node = _compose(text, str(path))
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("must hold keys and values", where=str(path), fix=f"Start from a file of {examples}.")
    try:
        content: dict[str, Any] = values.build(node, ())
    except _NodeError as refused:
        raise ConfigError(refused.what, where=f"{path}:{refused.line}", fix=refused.fix) from None
    return content, values.lines


def parse_value(text: str) -> Any:
    """Read one value as it would be read from a file: `0.1`, `true`, `null`, `[1, 2]`, `text`.

    Raises:
        ConfigError: `what` says why it is no value; there is no `where`.
    """
    node = _compose(text, None)
    if node is None:
        return None
    plain = isinstance(node, yaml.ScalarNode) and node.style is None and not text.lstrip().startswith(("!", "&"))
    if plain and node.tag == f"{_TAG}str":
        return text.strip()  # `run #3` as it stands: a comment makes no sense here
    try:
        return _Values().build(node, ())
    except _NodeError as refused:
        raise ConfigError(refused.what, fix=refused.fix) from None


def dump_yaml(content: dict[str, Any]) -> str:
    """Return the content as YAML text, keys in the order given. Read back it is equal."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _NodeError(Exception):
    """A node that this module makes no value of."""

    def __init__(self, node: yaml.Node, what: str, fix: str) -> None:
        super().__init__(what)
        self.line, self.what, self.fix = node.start_mark.line + 1, what, fix


class _Values:
    """Makes values of nodes and takes down the line of every key and list entry."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path) -> Any:
        if any(node is outer for outer in self._open):
            raise _NodeError(node, "an anchor that contains itself", "Write its content out.")
        if len(self.lines) > _MOST_PLACES:
            raise _NodeError(node, f"more than {_MOST_PLACES:,} keys", "Keep data out of the configuration.")
        self._open.append(node)
        try:
            if isinstance(node, yaml.ScalarNode):
                return _scalar(node)
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self._entry(value, (*path, index)) for index, value in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, path)
            raise _foreign_tag(node)
        finally:
            self._open.pop()

    def _entry(self, node: yaml.Node, path: Path) -> Any:
        self.lines[path] = node.start_mark.line + 1
        return self.build(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        content: dict[str, Any] = {}
        own: dict[str, int] = {}
        merged = [value for key, value in node.value if key.tag == f"{_TAG}merge"]
        for source in [item for value in merged for item in _merge_sources(value)]:
            content = self.build(source, path) | content  # of several sources the first one counts
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise _NodeError(key, "a key must be a text", "Check the brackets and braces.")
            place, line = (*path, key.value), key.start_mark.line + 1
            if key.value in own:
                raise _NodeError(key, f"{_dotted(place)} stands here and in line {own[key.value]}", "Keep one of them.")
            own[key.value] = self.lines[place] = line
            content[key.value] = self.build(value, place)
        return content


def _merge_sources(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(source, yaml.MappingNode):
            raise _NodeError(source, "<< takes an anchor of keys and values", "Check the anchor.")
        yield source


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    if kind == "str":
        return text
    if kind == "null" and _NULL.fullmatch(text):
        return None
    if kind == "bool" and _BOOL.fullmatch(text):
        return text.lower() in ("true", "yes", "on")
    digits = text.replace("_", "")
    if kind == "int" and _INT.fullmatch(text):
        if len(digits) > 1000:
            raise _NodeError(node, f"a number of {len(digits)} digits", "Shorten it.")
        return int(digits, 0) if digits[1:2] in ("x", "o") else int(digits)
    if kind == "float" and (_FLOAT.fullmatch(text) or _INT.fullmatch(text)):
        if text.lower().endswith((".inf", ".nan")):
            return math.nan if text.lower() == ".nan" else math.inf * (-1 if text[0] == "-" else 1)
        return float(digits)
    raise _foreign_tag(node)


def _foreign_tag(node: yaml.Node) -> _NodeError:
    return _NodeError(node, f"cannot be read as {node.tag.replace(_TAG, '!!')}", "Write a plain value, without a tag.")


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))


# ---- what PyYAML says, for people ----------------------------------------------------------------------------------

_PROBLEMS = {
    "found character '\\t'": "a tab: indent with spaces",
    "found character ": "a text that begins with this character must stand in quotes",
    "mapping values are not allowed here": "a colon too many: a text that holds one must stand in quotes",
    "expected <block end>": "the indentation fits no line above",
    "but found another document": "a second document: remove the line ---",
    "could not find expected ':'": "a key without a colon",
    "got '<stream end>'": "a bracket or brace that is opened here is not closed",
    "found unexpected end of stream": "a quote that is opened here is not closed",
}


def _compose(text: str, file: str | None) -> yaml.Node | None:
    """Return the tree of nodes of a text; raises ConfigError, with its line when it is a file."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"holds the character {error.character:#06x}, which YAML refuses"
        fix = "Remove it."
    except yaml.MarkedYAMLError as error:
        problem = " ".join(filter(None, [error.problem, error.context]))
        what, fix = next((said for known, said in _PROBLEMS.items() if known in problem), problem), "Mend it there."
        mark = error.context_mark if "opened here" in what else error.problem_mark
        line = mark.line + 1 if mark else 1
        what = f"not valid YAML ({what})"
    except RecursionError:
        line, what, fix = 1, "not valid YAML (nested too deeply)", "Close the brackets."
    raise ConfigError(what, where=f"{file}:{line}" if file else None, fix=fix)
