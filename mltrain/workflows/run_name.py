"""What a run is called when the user does not say: data set, what was set by hand, fold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mltrain.config.schema import Config

__all__ = ["run_name"]

# These say where and how, not what is learned; the fold has a place of its own.
_LEFT_OUT = (
    "run.",
    "tracking.",
    "data.fold",
    "data.num_workers",
    "data.data_dir",
    "data.dataset_name",
    "training.device",
)
_MAX_LENGTH = 120


def run_name(config: Config, overrides: Mapping[str, Any]) -> str:
    """Return `<data set>_<what differs from the file>_fold_<k>`, fit for a folder."""
    parts = [
        f"{key.rsplit('.', 1)[-1]}-{_slug(value)}"
        for key, value in sorted(overrides.items())
        if not key.startswith(_LEFT_OUT)
    ]
    fold = f"_fold_{config.data.fold}"
    stem = "_".join([_slug(config.data.name), *parts])
    return stem[: _MAX_LENGTH - len(fold)].rstrip("_-.") + fold


def _slug(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.+=-]+", "-", text).strip("-.") or "data"
