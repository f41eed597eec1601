"""Workers, prefetching and pinned memory, chosen from the machine; what is loaded does not depend on them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from mltrain.config.section import DataSection
from mltrain.core.hardware import usable_cores, worker_count
from mltrain.core.logging import log
from mltrain.data.loader import Batch, LoaderSettings

__all__ = ["choose_loader_settings", "free_shared_memory", "local_process_count", "tensor_bytes"]

_PREFETCH = 2
_SHARED_MEMORY = Path("/dev/shm")
# A training and an evaluation loader hold batches at the same time, and others use shared memory too.
_LOADERS, _USABLE_SHARE = 2, 0.5


def choose_loader_settings(
    section: DataSection, device: torch.device, *, batch_bytes: int, local_processes: int, is_main: bool = True
) -> LoaderSettings:
    """Return how batches are loaded.

    Workers hand batches over in shared memory: workers x prefetched batches of them have to fit. Where they do not
    (a container's /dev/shm often has 64 MiB), fewer are prefetched, then fewer workers used.

    Args:
        section: the wishes.
        device: where batches go; memory is pinned for CUDA, where it makes copies asynchronous.
        batch_bytes: size of the largest batch.
        local_processes: training processes on this machine, which share its cores and memory.
        is_main: whether this process tells of it.
    """
    wish = worker_count(section.num_workers, local_processes=local_processes)
    prefetch_wish = _PREFETCH if section.prefetch_factor == "auto" else section.prefetch_factor
    workers, prefetch = _fitting(wish, prefetch_wish, batch_bytes, free_shared_memory(), local_processes)
    if is_main and workers < wish:
        log.warning(
            "data.num_workers is %d instead of %d: batches of %.1f MiB would not fit into the free part of %s.",
            workers, wish, batch_bytes / 2**20, _SHARED_MEMORY,
        )  # fmt: skip
    if is_main and workers > usable_cores():
        log.warning(
            "data.num_workers is %d on %d core(s): loading may be slower for it. auto chooses by the cores.",
            workers, usable_cores(),
        )  # fmt: skip
    pin = device.type == "cuda" if section.pin_memory == "auto" else section.pin_memory
    return LoaderSettings(num_workers=workers, pin_memory=pin and torch.cuda.is_available(), prefetch_factor=prefetch)


def free_shared_memory() -> int | None:
    """Return the free bytes of shared memory; None where the system has no folder for it and sets no such limit."""
    try:
        return shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return None


def local_process_count(processes: int) -> int:
    """Return how many of the run's processes are on this machine: as the launcher says, else all of them."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(text) if text.isdecimal() and 0 < int(text) <= processes else processes


def tensor_bytes(batch: Batch) -> int:
    """Return the bytes that the tensors of a batch hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in batch.values() if isinstance(tensor, torch.Tensor))


def _fitting(workers: int, prefetch: int, batch_bytes: int, free: int | None, processes: int) -> tuple[int, int]:
    """Return the most workers, up to those wished, and the most prefetching that fit."""
    if free is None or batch_bytes == 0:
        return workers, prefetch
    batches = int(_USABLE_SHARE * free / (_LOADERS * processes * batch_bytes))
    if workers * prefetch <= batches:
        return workers, prefetch
    workers = min(workers, batches)
    return workers, max(1, min(prefetch, batches // workers)) if workers else prefetch
