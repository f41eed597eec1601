"""What this machine has: devices, cores, memory; and what follows for workers, precision and determinism."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mltrain.core.control_group import cpu_quota
from mltrain.core.environment import variables_set
from mltrain.core.errors import HardwareError
from mltrain.core.world_size import check_world_size

if TYPE_CHECKING:
    import torch

__all__ = [
    "as_if_launched",
    "automatic_workers",
    "check_device",
    "cpu_computes_bf16",
    "describe_hardware",
    "instruction_set",
    "process_count",
    "set_determinism",
    "set_float32_precision",
    "usable_cores",
    "worker_count",
]

_MAX_AUTO_WORKERS = 8


def usable_cores() -> int:
    """Return the number of cores this process may use: by its affinity, and by its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def process_count() -> int:
    """Return the number of processes that a launcher started for this run; 1 without a launcher.

    Raises:
        HardwareError: it is none, or another number was asked for.
    """
    count = os.environ.get("WORLD_SIZE") or "1"
    if not count.isdecimal() or int(count) < 1:
        raise HardwareError(
            f"{count!r} is no number of processes", where="WORLD_SIZE", fix="Unset it, or let a launcher set it."
        )
    check_world_size(int(count))
    return int(count)


@contextlib.contextmanager
def as_if_launched(processes: int) -> Iterator[None]:
    """Let checks see as many processes as will be launched."""
    with variables_set({"WORLD_SIZE": str(processes)}):
        yield


def worker_count(wish: int | str, *, local_processes: int) -> int:
    """Return the number of loader processes of one training process.

    Args:
        wish: a number, or "auto": the cores of this process's share, at most 8.
        local_processes: training processes on this machine, which share its cores.
    """
    if isinstance(wish, int):
        return wish
    return automatic_workers(usable_cores(), local_processes=local_processes)


def automatic_workers(cores: int, *, local_processes: int) -> int:
    """Return the number of loader processes of one of the training processes that share these cores."""
    share = cores // max(1, local_processes)
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
        "bf16": cpu_computes_bf16(),
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


def cpu_computes_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 by itself; without, torch emulates it, slower than float32."""
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN says that it supports bfloat16 with any AVX-512: most of these emulate it.
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


def instruction_set() -> str:
    """Return the instruction set that torch's CPU kernels use here; part of the bits of a result."""
    import torch

    return torch.backends.cpu.get_cpu_capability()
