"""The version stands in three places, and they agree."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import mltrain
from mltrain.core.version import __version__

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def test_the_version_is_the_same_everywhere() -> None:
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    assert declared == __version__ == mltrain.__version__ == version("mltrain")
