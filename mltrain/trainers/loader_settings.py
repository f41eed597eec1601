"""Workers, prefetching and pinned memory, chosen from the machine; what is loaded does not depend on them."""

from __future__ import annotations

import os

import torch

from mltrain.config.section import DataSection
from mltrain.core.hardware import usable_cores, worker_count
from mltrain.core.logging import log
from mltrain.core.shared_memory import PREFETCH, SHARED_MEMORY, fitting_workers, free_shared_memory
from mltrain.data.loader import Batch, LoaderSettings

__all__ = ["choose_loader_settings", "local_process_count", "tensor_bytes"]


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
    prefetch_wish = PREFETCH if section.prefetch_factor == "auto" else section.prefetch_factor
    workers, prefetch = fitting_workers(wish, prefetch_wish, batch_bytes, free_shared_memory(), local_processes)
    if is_main and workers < wish:
        log.warning(
            "data.num_workers is %d instead of %d: batches of %.1f MiB would not fit into the free part of %s.",
            workers, wish, batch_bytes / 2**20, SHARED_MEMORY,
        )  # fmt: skip
    if is_main and workers > usable_cores():
        log.warning(
            "data.num_workers is %d on %d core(s): loading may be slower for it. auto chooses by the cores.",
            workers, usable_cores(),
        )  # fmt: skip
    pin = device.type == "cuda" if section.pin_memory == "auto" else section.pin_memory
    return LoaderSettings(num_workers=workers, pin_memory=pin and torch.cuda.is_available(), prefetch_factor=prefetch)


def local_process_count(processes: int) -> int:
    """Return how many of the run's processes are on this machine: as the launcher says, else all of them."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(text) if text.isdecimal() and 0 < int(text) <= processes else processes


def tensor_bytes(batch: Batch) -> int:
    """Return the bytes that the tensors of a batch hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in batch.values() if isinstance(tensor, torch.Tensor))
