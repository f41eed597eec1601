"""Writes docs/configuration.md from the schema: `python docs/generate_configuration.py`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mltrain.config.schema import Config
from mltrain.config.section import DataSection, ModelSection
from mltrain.config.suggestions import section_of
from mltrain.tasks.base import TASKS

TARGET = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

Every key of a configuration, its default and what it does. The first part holds for every task; what a task adds to
`data` and `model` follows by its name. Unknown keys are refused. Any key can be set on the command line as
`section.key=value`. Written by `docs/generate_configuration.py`.
"""
# Their data and model are those of a Python script.
_OF_SCRIPTS = ("own_classification", "own_loss")


def reference() -> str:
    """Return the page."""
    parts = [HEAD, *_section(Config, "")]
    for task in TASKS.names():
        kind = TASKS.get(task)
        # Plugins may have registered theirs in this process.
        if kind.__module__.startswith("mltrain.tasks.") and task not in _OF_SCRIPTS:
            parts += [f"\n## Task `{task}`"]
            parts += _additions(kind.data_section, DataSection, "data")
            parts += _additions(kind.model_section, ModelSection, "model")
    return "\n".join(parts).rstrip() + "\n"


def _additions(section: type[BaseModel], base: type[BaseModel], prefix: str) -> Iterator[str]:
    """Yield what a task's section has that the section of every task lacks, or has otherwise."""
    names = [
        name
        for name, field in section.model_fields.items()
        if name not in base.model_fields or repr(field) != repr(base.model_fields[name])
    ]
    if names:
        yield from _keys(section, names, prefix, "###")


def _section(section: type[BaseModel], prefix: str) -> Iterator[str]:
    yield from _keys(section, list(section.model_fields), prefix, "##")


def _keys(section: type[BaseModel], names: list[str], prefix: str, heading: str) -> Iterator[str]:
    """Yield a table of keys, and the sections among them."""
    inner = {name: section_of(section.model_fields[name].annotation) for name in names}
    if prefix:
        yield f"\n{heading} `{prefix}`\n\n{(section.__doc__ or '').splitlines()[0]}\n"
    yield "| key | type | default | what |\n|---|---|---|---|"
    for name in names:
        field = section.model_fields[name]
        if inner[name] is not None and not field.description:
            continue
        default = "required" if field.default is PydanticUndefined and field.default_factory is None else _text(field)
        yield f"| `{name}` | {_type(field.annotation)} | {default} | {field.description or ''} |"
    for name, kind in inner.items():
        if kind is not None:
            yield from _keys(kind, list(kind.model_fields), f"{prefix}.{name}" if prefix else name, heading)


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
