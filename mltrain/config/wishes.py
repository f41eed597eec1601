"""What a key may hold, in words, made from its type: `a whole number, at least 1`."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["choices", "kinds", "members", "wish"]

_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "null",
    Any: "any value",
}


def members(annotation: Any) -> list[Any]:
    """Return the types that a field may hold: `int | None` gives [int, None], each with its own bounds."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [member for argument in typing.get_args(annotation) for member in members(argument)]
    return [annotation]


def kinds(annotation: Any) -> set[Any]:
    """Return the bare types that a field may hold: `list[int] | None` gives {list, None's type}."""
    bare = [
        typing.get_args(one)[0] if typing.get_origin(one) is typing.Annotated else one for one in members(annotation)
    ]
    return {typing.get_origin(one) or one for one in bare}


def choices(annotation: Any, field: FieldInfo | None = None) -> list[str]:
    """Return the words that a field takes, for the nearest one to be found; none when any text will do."""
    words = [
        word
        for member in members(annotation)
        if typing.get_origin(member) is Literal
        for word in typing.get_args(member)
    ]
    examples = (field.examples or []) if field is not None else []
    return [word for word in [*words, *examples] if isinstance(word, str)]


def wish(annotation: Any, field: FieldInfo | None = None) -> str:
    """Return what a value must be. `field` brings the bounds that stand beside the type."""
    metadata = list(field.metadata) if field is not None else []
    if field is not None and field.examples:
        return f"one like {_either([str(example) for example in field.examples])}"
    parts: list[str] = []
    for member in members(annotation):
        parts += _words(member, metadata)
    return _either(parts)


def _words(annotation: Any, metadata: Sequence[Any]) -> list[str]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner = arguments[1].metadata if isinstance(arguments[1], FieldInfo) else arguments[1:]
        return _words(arguments[0], inner)
    if origin is Literal:
        return [repr(argument) for argument in arguments]
    if origin is list:
        return [_list_words(arguments[0] if arguments else Any, metadata)]
    if origin is dict or annotation is dict:
        value = arguments[1] if arguments else Any
        return ["keys and values" if value is Any else f"keys and values, each value {wish(value)}"]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        required = [name for name, field in annotation.model_fields.items() if field.is_required()]
        return ["a section of keys and values" + (f" (needed: {', '.join(required)})" if required else "")]
    bounds = [] if annotation in (bool, type(None)) else _bounds(metadata)
    return [", ".join(filter(None, [_NAMES.get(annotation, str(annotation)), " and ".join(bounds)]))]


def _list_words(entry: Any, metadata: Sequence[Any]) -> str:
    lengths = {getattr(item, name) for item in metadata for name in ("min_length", "max_length") if hasattr(item, name)}
    count = f" of {lengths.pop()} entries" if len(lengths) == 1 else ""
    return f"a list{count}, each {wish(entry)}"


def _bounds(metadata: Sequence[Any]) -> list[str]:
    bounds = [(text, getattr(item, name, None)) for item in metadata for name, text in _BOUNDS.items()]
    found = [f"{text} {bound:g}" if bound < 1e6 else f"{text} {bound}" for text, bound in bounds if bound is not None]
    if any(getattr(item, "min_length", None) for item in metadata):
        found.append("not empty")
    return found


def _either(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    comma = "," if any(", " in part for part in parts) else ""
    return f"{', '.join(parts[:-1])}{comma} or {parts[-1]}"
