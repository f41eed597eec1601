"""Writes docs/configuration.md from the schema: `python docs/generate_configuration.py`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mltrain.config.suggestions import section_of
from mltrain.tasks.base import task_config_class

TARGET = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

Every key of a configuration for `image_classification`, its default and what it does. Unknown keys are refused. Any key
can be set on the command line as `section.key=value`. Written by `docs/generate_configuration.py`.
"""


def reference() -> str:
    """Return the page."""
    root = task_config_class("image_classification", [])
    parts = [HEAD, *_section(root, "")]
    return "\n".join(parts).rstrip() + "\n"


def _section(section: type[BaseModel], prefix: str) -> Iterator[str]:
    inner = {name: section_of(field.annotation) for name, field in section.model_fields.items()}
    if prefix:
        yield f"\n## `{prefix}`\n\n{(section.__doc__ or '').splitlines()[0]}\n"
    yield "| key | type | default | what |\n|---|---|---|---|"
    for name, field in section.model_fields.items():
        if inner[name] is not None and not field.description:
            continue
        default = "required" if field.default is PydanticUndefined and field.default_factory is None else _text(field)
        yield f"| `{name}` | {_type(field.annotation)} | {default} | {field.description or ''} |"
    for name, kind in inner.items():
        if kind is not None:
            yield from _section(kind, f"{prefix}.{name}" if prefix else name)


def _text(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return {None: "`null`", True: "`true`", False: "`false`"}[value]
    return f"`{value}`" if value != "" else "empty"


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return ", ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is not None:
        return f"{origin.__name__} of {_type(arguments[-1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ", ".join(annotation.model_fields)
    return {type(None): "null", Any: "any"}.get(annotation) or annotation.__name__


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
