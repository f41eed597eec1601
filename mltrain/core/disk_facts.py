"""How much room there is in the folders of a run, before they exist."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mltrain.core.machine import Disk

__all__ = ["disk"]


def disk(purpose: str, folder: Path, *, written: bool) -> Disk:
    """Return the facts of a folder; of one that is missing, those of the folder that it would be made in.

    Args:
        purpose: the key that names it, or what it is for.
        written: whether a run writes there.
    """
    try:
        path = folder.expanduser().absolute()
        place = next(place for place in (path, *path.parents) if place.exists())
        usage = shutil.disk_usage(place)
        writable = os.access(place, os.W_OK | os.X_OK) and place.is_dir() if written else None
    except (OSError, RuntimeError, StopIteration) as error:  # RuntimeError: the user has no home
        return Disk(purpose, str(folder), problem=getattr(error, "strerror", None) or str(error) or "cannot be read")
    return Disk(purpose, str(path), usage.total, usage.free, writable)
