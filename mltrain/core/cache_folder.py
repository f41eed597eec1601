"""Where what can be found out again is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path | None:
    """Return the folder: `MLTRAIN_CACHE`, or `mltrain` in the user's cache folder; None where the user has no home.

    It may be missing, and may be deleted at any time: nothing in it is needed.
    """
    if named := os.environ.get("MLTRAIN_CACHE"):
        return Path(named).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():  # a relative one is to be passed over, says the XDG specification
        return Path(shared) / "mltrain"
    try:
        return Path.home() / ".cache" / "mltrain"
    except RuntimeError:
        return None
