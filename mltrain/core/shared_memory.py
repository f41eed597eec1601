"""Shared memory, through which loader workers hand over batches: how much there is, and what it takes."""

from __future__ import annotations

import shutil
from pathlib import Path

from mltrain.core.machine import SharedMemory

__all__ = ["PREFETCH", "SHARED_MEMORY", "bytes_needed", "fitting_workers", "free_shared_memory", "shared_memory"]

PREFETCH = 2
"""Batches that a loader worker reads ahead where nobody says otherwise."""
SHARED_MEMORY = Path("/dev/shm")
# A training and an evaluation loader hold batches at the same time, and others use shared memory too.
_LOADERS, _USABLE_SHARE = 2, 0.5


def shared_memory(folder: Path = SHARED_MEMORY) -> SharedMemory | None:
    """Return what there is; None where the system has no folder for it and sets no such limit."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return SharedMemory(str(folder), usage.total, usage.free)


def free_shared_memory() -> int | None:
    """Return the free bytes of shared memory; None where the system sets no such limit."""
    found = shared_memory()
    return None if found is None else found.free


def bytes_needed(workers: int, prefetch: int, batch_bytes: int, processes: int) -> int:
    """Return the free bytes that loaders of `processes` training processes with so many workers each should find."""
    return int(_LOADERS * processes * workers * prefetch * batch_bytes / _USABLE_SHARE)


def fitting_workers(workers: int, prefetch: int, batch_bytes: int, free: int | None, processes: int) -> tuple[int, int]:
    """Return the most workers, up to those wished, and the most prefetching that fit.

    Args:
        workers, prefetch: the wish: loader workers of a training process, and batches that each reads ahead.
        batch_bytes: size of the largest batch.
        free: free bytes of shared memory; None: no limit.
        processes: training processes on this machine.
    """
    if free is None or batch_bytes == 0:
        return workers, prefetch
    batches = int(_USABLE_SHARE * free / (_LOADERS * processes * batch_bytes))
    if workers * prefetch <= batches:
        return workers, prefetch
    workers = min(workers, batches)
    return workers, max(1, min(prefetch, batches // workers)) if workers else prefetch
