"""What a run is called when the user does not say: data set, what was set by hand, fold."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mltrain.config.schema import Config
from mltrain.config.suggestions import known_keys

__all__ = ["run_name"]

# These say where and how, not what is learned; the fold has a place of its own.
_LEFT_OUT = (
    "run",
    "tracking",
    "plugins",
    "evaluation",
    "data.fold",
    "data.num_workers",
    "data.data_dir",
    "data.dataset_name",
    "data.splits_dir",
    "training.compile",
    "training.device",
    "training.gradient_checkpointing",
    "training.max_time",
    "training.collective_timeout_s",
)
_MAX_LENGTH = 120


def run_name(config: Config, overrides: Mapping[str, Any]) -> str:
    """Return `<data set>_<what differs from the file>_fold_<k>`, fit for a folder."""
    counts = Counter(key.rsplit(".", 1)[-1] for key in known_keys(type(config)))
    parts = [
        f"{_short(key, counts)}-{_slug(value)}"
        for key, value in sorted(_leaves(overrides))
        if not any(key == left_out or key.startswith(f"{left_out}.") for left_out in _LEFT_OUT)
    ]
    fold = f"_fold_{config.data.fold}"
    stem = "_".join([_slug(config.data.name), *parts])
    if len(stem) > _MAX_LENGTH - len(fold):
        # Two long names must not become one: an unfinished run is found again by its name.
        digest = hashlib.blake2b(stem.encode(), digest_size=4).hexdigest()
        stem = f"{stem[: _MAX_LENGTH - len(fold) - len(digest) - 1].rstrip('_-.')}-{digest}"
    return stem + fold


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(key: str, counts: Counter[str]) -> str:
    """Return the last part of a key, with its section where several sections have such a key."""
    parts = key.split(".")
    short = ".".join(parts[-2:]) if counts[parts[-1]] > 1 else parts[-1]
    return re.sub(r"[^A-Za-z0-9._]+", "-", short)


def _slug(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return re.sub(r"[^A-Za-z0-9.+=-]+", "-", str(value)).strip("-.") or "data"
