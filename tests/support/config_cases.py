"""A configuration to break, and the class that checks it, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mltrain.config.load import LoadedConfig, load_config, parse_overrides
from mltrain.config.schema import Config, config_class
from mltrain.core.errors import ConfigError
from mltrain.core.plugins import load_plugins
from mltrain.core.registry import nearest
from mltrain.tasks.image_sections import ImageDataSection, ImageModelSection

CLASS = config_class(ImageDataSection, ImageModelSection)

BASE = """task: images
data: {data_dir: photos}
model: {architecture: mlp}
"""


def class_of(task: str, plugins: Sequence[str]) -> type[Config]:
    """As `mltrain.tasks.base.task_config_class` does, with one task."""
    load_plugins(plugins)
    if task != "images":
        close = nearest(task, ["images"])
        raise ConfigError(f"unknown task {task!r}", where="task", fix=f"Did you mean {close!r}?" if close else "Known.")
    return CLASS


def load(text: str = BASE, overrides: Sequence[str] | Mapping[str, Any] = ()) -> LoadedConfig:
    """Load a file of this content, and `section.key=value` arguments."""
    path = Path("c.yaml")
    path.write_text(text, encoding="utf-8")
    given = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    return load_config(path, given, class_of)


def problems(text: str = BASE, overrides: Sequence[str] | Mapping[str, Any] = ()) -> list[str]:
    """Return the lines with which a configuration is refused; each must be for people."""
    with pytest.raises(ConfigError) as raised:
        load(text, overrides)
    for line in raised.value.problems:
        assert "\n" not in line
        for jargon in ("pydantic", "Section", "dictionary", "Input should", "None", "True", "dict", "str_", "Literal"):
            assert jargon not in line, line
    return raised.value.problems
