"""What this machine has: devices, cores, memory; and what follows for workers, precision and determinism."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltrain.core.errors import HardwareError

if TYPE_CHECKING:
    import torch

__all__ = [
    "check_device",
    "describe_hardware",
    "instruction_set",
    "process_count",
    "set_determinism",
    "set_float32_precision",
    "usable_cores",
    "worker_count",
]

_MAX_AUTO_WORKERS = 8
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Return the number of cores this process may use: by its affinity, and by its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group of version 2, or "max": no quota
        return cores


def process_count() -> int:
    """Return the number of processes that a launcher started for this run; 1 without a launcher."""
    count = os.environ.get("WORLD_SIZE") or "1"
    if not count.isdecimal() or int(count) < 1:
        raise HardwareError(
            f"{count!r} is no number of processes", where="WORLD_SIZE", fix="Unset it, or let a launcher set it."
        )
    return int(count)


def worker_count(wish: int | str, *, local_processes: int) -> int:
    """Return the number of loader processes of one training process.

    Args:
        wish: a number, or "auto": the cores of this process's share, at most 8.
        local_processes: training processes on this machine, which share its cores.
    """
    if isinstance(wish, int):
        return wish
    share = usable_cores() // max(1, local_processes)
    # One core alone is better spent in the training process itself.
    return 0 if share < 2 else min(_MAX_AUTO_WORKERS, share)


def check_device(name: str) -> str:
    """Return the device type and index that `name` ("auto", "cpu", "cuda", "cuda:1", "mps") stands for here.

    Raises:
        HardwareError: the machine has no such device.
    """
    import torch

    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator.type if accelerator is not None else "cpu"
    kind, _, index = name.partition(":")
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    count = available.get(kind, torch.xpu.device_count() if kind == "xpu" else 0)
    if count == 0:
        raise HardwareError(
            f"{name!r} was asked for, but this machine has no {kind.upper()} device that this torch can use",
            where="training.device",
            fix="Use --device auto or --device cpu.",
        )
    if index and int(index) >= count:
        raise HardwareError(
            f"{name!r} was asked for, but there are {count} such devices, numbered from 0",
            where="training.device",
            fix=f"Use --device {kind}:{count - 1} or less.",
        )
    return name


def set_determinism(*, deterministic: bool, benchmark: bool, num_threads: int | None, tf32: bool | None = None) -> None:
    """Set torch's process-wide switches for equal bits, or for speed.

    Must run before CUDA starts: cuBLAS reads its workspace variable once.

    Args:
        deterministic: only operations that give the same bits each time.
        benchmark: let cuDNN choose its algorithms by trial.
        num_threads: threads of a CPU operation; None leaves them as they are.
        tf32: float32 products in TF32 on GPUs that have it; None keeps torch's choice (convolutions only).
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = benchmark
    if tf32 is not None:
        set_float32_precision(tf32=tf32)
    # Filling fresh memory would catch reads of it, at a price each step; no operation of ours reads it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_float32_precision(*, tf32: bool) -> None:
    """Set whether products of float32 on GPUs may be computed in TF32: quicker, and wrong by a thousandth."""
    import torch

    precision = "tf32" if tf32 else "ieee"
    for place in (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn):  # type: ignore[attr-defined]
        place.fp32_precision = precision  # type: ignore[union-attr]


def describe_hardware(device: torch.device) -> dict[str, Any]:
    """Return the facts of this machine that bear on speed and on bits.

    `bf16` and `tf32` say whether the device computes in these types by itself, not whether the run uses them.
    """
    import psutil
    import torch

    facts: dict[str, Any] = {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "instruction_set": instruction_set(),
        "bf16": torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),  # type: ignore[no-untyped-call]
        "tf32": False,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_gib": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "tf32": properties.major >= 8,
        }
    return facts


def instruction_set() -> str:
    """Return the instruction set that torch's CPU kernels use here; part of the bits of a result."""
    import torch

    return torch.backends.cpu.get_cpu_capability()
