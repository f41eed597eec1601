"""A value that does not fit, said in one line: where, what it must be, what it is, and what to write."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mltrain.config.places import Places, dotted
from mltrain.config.wishes import choices, kinds, members, wish
from mltrain.config.yaml_file import Path
from mltrain.core.registry import nearest

__all__ = ["explain", "shown"]

# Values of other tools and ours.
_FOREIGN = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "gpu": "cuda",
    "half": "float16",
    "maximize": "max",
    "maximum": "max",
    "minimize": "min",
    "minimum": "min",
    "constant": "none",
    "reduce_on_plateau": "plateau",
    "reducelronplateau": "plateau",
    "steplr": "step",
}
_LONGEST = 60


def explain(error: ValidationError, root: type[BaseModel], places: Places) -> dict[Path, str]:
    """Return key -> one line for each key that pydantic found wrong. Unknown keys are left to others."""
    found: dict[Path, tuple[Any, FieldInfo | None, dict[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] != "extra_forbidden":
            path, annotation, field = _field_at(root, detail["loc"])
            found.setdefault(path, (annotation, field, typing.cast(dict[str, Any], detail)))
    return {
        path: _line(path, annotation, field, detail, places)
        for path, (annotation, field, detail) in found.items()
        # Keys that are given for a choice of types are meant as the section among them: what is wrong stands below.
        if not (isinstance(detail["input"], Mapping) and any(_below(other, path) for other in found))
    }


def shown(value: Any) -> str:
    """Return a value as it would stand in a file, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _below(path: Path, outer: Path) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _field_at(root: type[BaseModel], location: tuple[int | str, ...]) -> tuple[Path, Any, FieldInfo | None]:
    """Return the key, its type and its field, for a location in which pydantic also names the types it tried."""
    path: Path = ()
    annotation: Any = root
    field: FieldInfo | None = None
    for part in location:
        for member in members(annotation):
            if isinstance(member, type) and issubclass(member, BaseModel) and part in member.model_fields:
                field = member.model_fields[str(part)]
                path, annotation = (*path, part), field.annotation
                break
            origin, arguments = typing.get_origin(member), typing.get_args(member)
            if (origin is list and isinstance(part, int)) or (origin is dict and part != "[key]"):
                path, annotation, field = (*path, part), arguments[-1], None
                break
    return path, annotation, field


def _line(path: Path, annotation: Any, field: FieldInfo | None, detail: dict[str, Any], places: Places) -> str:
    place = places.of(path)
    if detail["type"] == "missing":
        about = field.description if field is not None else None
        return f"{place}: is missing. Add it: {(about or wish(annotation)).rstrip('.')}."
    if detail["type"] in ("value_error", "assertion_error"):  # of a plugin's own validator
        return f"{place}: {str(detail['ctx']['error']).rstrip('.')}."
    given = detail["input"]
    hint = _hint(path, annotation, field, given, command_line=places.on_command_line(path))
    return f"{place}: must be {wish(annotation, field)}, is {shown(given)}.{hint and ' '}{hint}"


def _hint(path: Path, annotation: Any, field: FieldInfo | None, given: Any, *, command_line: bool) -> str:
    words, takes, key = choices(annotation, field), kinds(annotation), path[-1] if path else ""
    if isinstance(given, str) and words:
        close = _FOREIGN.get(given.lower())
        close = close if close in words else nearest(given.lower(), words)
        return f"Did you mean {close!r}?" if close else ""
    for kind in takes:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return _section_hint(kind, path, given, command_line=command_line)
    if isinstance(given, str) and {int, float} & takes and _is_number(given):
        return "Write it without quotes."
    if isinstance(given, float) and int in takes and float not in takes and given.is_integer():
        return f"Write {int(given)}"
    if str in takes and not words and isinstance(given, bool | int | float):
        if not command_line or isinstance(key, int):
            return "Put it in quotes."
        return f"Write {dotted(path)}='\"{shown(given)}\"'"
    if list in takes and isinstance(given, str):
        return f"Write {dotted(path)}='[{given}]'" if command_line else f"Write {key}: [{given}]"
    if given is None:
        or_not = "" if field is not None and field.is_required() else ", or leave it out"
        return "Write {} for none" if dict in takes else f"Give it a value{or_not}."
    return ""


def _section_hint(section: type[BaseModel], path: Path, given: Any, *, command_line: bool) -> str:
    if given is None:
        return "Give it keys, or leave it out."
    for name, kind in (("enabled", bool), ("name", str), ("architecture", str), ("data_dir", str)):
        if name in section.model_fields and isinstance(given, kind):
            value = shown(given) if kind is bool else given
            return f"Write {dotted(path)}.{name}={value}" if command_line else f"Write {path[-1]}: {{{name}: {value}}}"
    return ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
