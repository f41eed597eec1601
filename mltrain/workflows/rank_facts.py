"""What each process of a run computes on, known to all of them; and in what that bears on the bits they differ."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import gather_object

from mltrain.core.hardware import describe_hardware

__all__ = ["differences_between_ranks", "gather_rank_facts", "rank_list"]

_BEARS_ON_BITS = ("device", "gpu", "compute_capability", "cuda", "instruction_set", "threads", "torch")


def gather_rank_facts(accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return the facts of every process, in order of rank. Every process must call it.

    Each has `rank`, `local_rank` (on its host), `host`, `backend` (through which the processes exchange tensors; None
    of a single one), `torch` (its version) and `hardware` (see `describe_hardware`).
    """
    joined = dist.is_available() and dist.is_initialized()
    facts = {
        "rank": accelerator.process_index,
        "local_rank": accelerator.local_process_index,
        "host": socket.gethostname(),
        "backend": dist.get_backend() if joined else None,
        "torch": torch.__version__,
        "hardware": describe_hardware(accelerator.device),
    }
    return list(gather_object([facts]))


def differences_between_ranks(ranks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what differs between processes and bears on the bits of a result: `threads: 2 (ranks 0-3), 1 (rank 4)`."""
    found = []
    for name in _BEARS_ON_BITS:
        holders: dict[str, list[int]] = {}
        for facts in ranks:
            value = str({**facts["hardware"], **facts}.get(name))
            kind = value.partition(":")[0] if name == "device" else value
            holders.setdefault(kind, []).append(facts["rank"])
        if len(holders) > 1:
            found.append(f"{name}: " + ", ".join(f"{value} ({rank_list(of)})" for value, of in holders.items()))
    return found


def rank_list(ranks: Iterable[int]) -> str:
    """Return ranks, in order, as people write them: `rank 3`, `ranks 0-2, 5`."""
    texts, count = [], 0
    for _, group in groupby(enumerate(ranks), lambda pair: pair[1] - pair[0]):
        run = [rank for _, rank in group]
        count += len(run)
        texts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return f"rank{'s' if count > 1 else ''} {', '.join(texts)}"
