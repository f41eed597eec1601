"""Facts of the system around Python: cores, memory, limits, network, NVIDIA's driver. What cannot be read is left out.

`root` is the folder that holds `proc`, `sys` and `dev`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import psutil

from mltrain.core.control_group import cpu_quota, memory_limit
from mltrain.core.files import read_words
from mltrain.core.hardware import usable_cores
from mltrain.core.machine import Host, Memory, Nvidia, Processor

__all__ = ["host", "memory", "nvidia", "processor"]

_ROOT = Path("/")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_DRIVER = re.compile(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b")
_ASKING_S = 20


def processor(root: Path = _ROOT) -> Processor:
    """Return what is known of the CPU without torch."""
    lines = (line.partition(":") for line in read_words(root / "proc/cpuinfo").splitlines())
    names = [value.strip() for name, _, value in lines if name.strip() == "model name"]
    architecture = platform.machine()
    return Processor(
        name=names[0] if names else platform.processor() or architecture,
        architecture=architecture,
        present=os.cpu_count() or 1,
        usable=usable_cores(),
        quota=cpu_quota(root),
    )


def memory(root: Path = _ROOT) -> Memory:
    """Return the host's memory and the container's limit."""
    found = psutil.virtual_memory()
    limit = memory_limit(root)
    return Memory(found.total, found.available, limit if limit is not None and limit < found.total else None)


def nvidia(root: Path = _ROOT) -> Nvidia:
    """Return how many NVIDIA GPUs the system shows to this process, and the driver's version."""
    displays = [
        folder
        for folder in _entries(root / "sys/bus/pci/devices")
        if read_words(folder / "vendor") == _NVIDIA and read_words(folder / "class").startswith(_DISPLAY)
    ]
    gpus = max(len(displays), len(_entries(root / "proc/driver/nvidia/gpus")))
    version = _DRIVER.search(
        read_words(root / "sys/module/nvidia/version") or read_words(root / "proc/driver/nvidia/version")
    )
    if version is not None:
        return Nvidia(gpus, version[1])
    # Where the driver belongs to another system, as under WSL, NVIDIA's own program knows it.
    said = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    return Nvidia(max(gpus, len(said)), said[0] if said else None)


def host(root: Path = _ROOT) -> Host:
    """Return the rest of the system."""
    return Host(
        platform=platform.platform(),
        python=platform.python_version(),
        container=_container(root),
        open_files=_open_files(),
        compiler=_compiler(),
        python_headers=Path(sysconfig.get_path("include") or "", "Python.h").is_file(),
        network=_network(),
        infiniband=tuple(sorted(folder.name for folder in _entries(root / "sys/class/infiniband"))),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        hub_offline=os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"),
    )


def _container(root: Path) -> str | None:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    for kind, marks in {
        "docker": (".dockerenv",), "podman": ("run/.containerenv",), "apptainer": (".singularity.d",),
    }.items():  # fmt: skip
        with contextlib.suppress(OSError):
            if any((root / mark).exists() for mark in marks):
                return kind
    return None


def _open_files() -> tuple[int | None, int | None]:
    soft, hard = (
        None if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    return soft, hard


def _compiler() -> str | None:
    """Return the path of the compiler in CXX, or of the first that torch.compile looks for."""
    with contextlib.suppress(ValueError):
        named = shlex.split(os.environ.get("CXX", ""))
        return next(filter(None, (shutil.which(name) for name in (*named[:1], "g++", "clang++"))), None)
    return None


def _network() -> dict[str, int]:
    try:
        stats = psutil.net_if_stats()
        addresses = psutil.net_if_addrs()
    except OSError:
        return {}
    loopback = {name for name, found in addresses.items() if any(item.address == "127.0.0.1" for item in found)}
    return {
        name: max(0, found.speed)
        for name, found in sorted(stats.items())
        if found.isup and name not in loopback and any("." in item.address for item in addresses.get(name, ()))
    }


def _output(*command: str) -> str:
    """Return what a program prints; nothing where it is missing, fails or does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_ASKING_S).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
