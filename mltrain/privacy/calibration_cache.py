"""The noise that earlier calibrations found, in a JSON file of the user's cache folder.

A cache that is damaged, or cannot be read or written, is done without.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from mltrain.core.cache_folder import cache_folder
from mltrain.core.files import read_record, write_json

__all__ = ["keep_noise", "known_noise"]

_NAME = "privacy-noise-1.json"  # the number is that of the search


def known_noise(request: Mapping[str, Any]) -> float | None:
    """Return the noise multiplier that was found for the same request, with the same Opacus; None: unknown."""
    folder = cache_folder()
    noise = None if folder is None else read_record(folder / _NAME).get(_key(request))
    return float(noise) if isinstance(noise, float) and math.isfinite(noise) and noise > 0 else None


def keep_noise(request: Mapping[str, Any], noise_multiplier: float) -> None:
    """Keep the noise multiplier of a request: target, delta, sample rate, steps and accountant."""
    folder = cache_folder()
    if folder is None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(folder / _NAME, {**read_record(folder / _NAME), _key(request): noise_multiplier})
    except (OSError, ValueError):
        return


def _key(request: Mapping[str, Any]) -> str:
    return json.dumps({**request, "opacus": version("opacus")}, sort_keys=True)
