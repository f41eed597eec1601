"""Facts of torch and of the devices that it sees. Imports torch, and survives where that fails."""

from __future__ import annotations

import contextlib
import platform
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from mltrain.core.errors import one_line
from mltrain.core.hardware import cpu_computes_bf16, instruction_set
from mltrain.core.machine import Device, Processor, TorchBuild

__all__ = ["runs_on", "torch_facts"]

T = TypeVar("T")

# Before Volta, float16 is slower than float32, or no quicker.
_QUICK_FP16, _BF16_AND_TF32 = (7, 0), (8, 0)
_MACOS_WITH_BF16 = 14


def torch_facts(processor: Processor) -> tuple[TorchBuild, tuple[Device, ...], Processor]:
    """Return the build, its devices, and the processor with what torch knows of it."""
    try:
        import torch
    except Exception as error:  # a build for another system fails in ways of its own
        return TorchBuild(problem=one_line(f"{type(error).__name__}: {error}")), (), processor
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        devices = (*_cuda_devices(torch), *_xpu_devices(torch), *_mps_devices(torch))
    build = TorchBuild(
        version=torch.__version__,
        problem=next((one_line(found.message) for found in caught if "CUDA" in str(found.message)), ""),
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        cudnn=_cudnn(torch),
        nccl=_try(lambda: ".".join(map(str, torch.cuda.nccl.version())), None),  # type: ignore[no-untyped-call]
        architectures=tuple(_try(torch.cuda.get_arch_list, [])),
        backends=_backends(),
        threads=torch.get_num_threads(),
    )
    known = replace(processor, instruction_set=_try(instruction_set, None), bf16=_try(cpu_computes_bf16, None))
    return build, devices, known


def runs_on(architectures: tuple[str, ...], capability: tuple[int, int]) -> bool:
    """Return whether a build with code for these architectures has some that a GPU of a compute capability runs.

    Machine code runs on later GPUs of its generation; `compute_...` is compiled for any later one.
    """
    if not architectures:
        return True
    for name in architectures:
        kind, _, text = name.partition("_")
        digits = "".join(letter for letter in text if letter.isdecimal())
        if len(digits) < 2:
            continue
        major, minor = int(digits[:-1]), int(digits[-1])
        specific = not text.isdecimal()  # sm_90a runs on 9.0 alone
        if kind == "compute" and (major, minor) <= capability and not specific:
            return True
        same = (major, minor) == capability if specific else major == capability[0] and minor <= capability[1]
        if kind == "sm" and same:
            return True
    return False


def _cuda_devices(torch: Any) -> list[Device]:
    found: list[Device] = []
    with contextlib.suppress(Exception):  # a driver that fails is told of by what torch warns
        if not torch.cuda.is_available():
            return []
        architectures = tuple(torch.cuda.get_arch_list())
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            is_amd, capability = torch.version.hip is not None, (properties.major, properties.minor)
            supported = is_amd or runs_on(architectures, capability)
            free = _try(partial(torch.cuda.mem_get_info, index), (None, None))[0] if supported else None
            found.append(
                Device(
                    "cuda", index, properties.name, properties.total_memory, free,
                    capability=None if is_amd else capability,
                    bf16=is_amd or capability >= _BF16_AND_TF32,
                    fp16=is_amd or capability >= _QUICK_FP16,
                    tf32=not is_amd and capability >= _BF16_AND_TF32,
                    supported=supported,
                )
            )  # fmt: skip
    return found


def _xpu_devices(torch: Any) -> list[Device]:
    found: list[Device] = []
    with contextlib.suppress(Exception):
        for index in range(torch.xpu.device_count()):
            properties = torch.xpu.get_device_properties(index)
            free = _try(partial(torch.xpu.mem_get_info, index), (None, None))[0]
            bf16 = bool(_try(torch.xpu.is_bf16_supported, True))
            found.append(Device("xpu", index, properties.name, properties.total_memory, free, bf16=bf16, fp16=True))
    return found


def _mps_devices(torch: Any) -> list[Device]:
    with contextlib.suppress(Exception):
        if torch.backends.mps.is_available():
            memory = _try(torch.mps.recommended_max_memory, None)
            version = platform.mac_ver()[0].partition(".")[0]
            bf16 = version.isdecimal() and int(version) >= _MACOS_WITH_BF16
            return [Device("mps", 0, f"Apple GPU ({platform.machine()})", memory, bf16=bf16, fp16=True)]
    return []


def _cudnn(torch: Any) -> str | None:
    number = _try(torch.backends.cudnn.version, None)
    if number is None:
        return None
    major, rest = divmod(number, 10000 if number >= 90000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _backends() -> tuple[str, ...]:
    import torch.distributed as dist

    if not dist.is_available():
        return ()
    known = {"gloo": dist.is_gloo_available, "nccl": dist.is_nccl_available, "mpi": dist.is_mpi_available}
    return tuple(name for name, has in known.items() if _try(has, False))


def _try(ask: Callable[[], T], otherwise: Any) -> T | Any:
    """Return an answer; what torch cannot say on this machine is `otherwise`."""
    try:
        return ask()
    except Exception:
        return otherwise
