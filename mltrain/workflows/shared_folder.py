"""A run folder that every process must see: machines without a common file system would each train into their own."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from pathlib import Path

from accelerate.utils import broadcast_object_list, gather_object

from mltrain.core.errors import HardwareError
from mltrain.core.hardware import process_count

__all__ = ["check_shared"]

_PATIENCE_S = 10.0  # network file systems show a new file late
_LOOK_EVERY_S = 0.1


def check_shared(folder: Path, *, is_main: bool, is_new: bool) -> None:
    """See that all processes have the same folder at this path. Every process must call it.

    Args:
        folder: of the run.
        is_main: whether this process has made or opened it.
        is_new: whether the main process has just made it; it is taken away again where the others do not see it.

    Raises:
        HardwareError: a process does not see it; raised by all of them.
    """
    if process_count() == 1:
        return
    names: list[str | None] = [f".{uuid.uuid4().hex}.tmp" if is_main else None]
    broadcast_object_list(names)
    mark = folder / str(names[0])
    if is_main:
        mark.touch()
    blind = [] if _appears(mark) else [int(os.environ.get("RANK", "0"))]
    blind = gather_object(blind)
    if is_main:
        mark.unlink(missing_ok=True)
    if not blind:
        return
    if is_main and is_new:
        shutil.rmtree(folder, ignore_errors=True)
    ranks = ", ".join(map(str, sorted(blind)))
    raise HardwareError(
        f"not the same folder for all processes: rank {ranks} does not see what rank 0 writes there",
        where=str(folder),
        fix="Set run.dir to a folder on a file system that all machines share.",
    )


def _appears(path: Path) -> bool:
    """Return whether a file is there, or comes within a few seconds."""
    end = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if time.monotonic() > end:
            return False
        # Listing a folder makes network file systems look anew.
        if path.parent.is_dir():
            list(path.parent.iterdir())
        time.sleep(_LOOK_EVERY_S)
    return True
