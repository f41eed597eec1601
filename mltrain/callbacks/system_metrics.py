"""Load of the machine, beside the training's own values: `system/...`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import psutil
import torch

from mltrain.callbacks.base import Callback, Loop
from mltrain.config.schema import SystemMetricsSection
from mltrain.core.hardware import usable_cores

__all__ = ["SystemMetrics"]

_GIB = 2**30


class SystemMetrics(Callback):
    """Logs processor, memory and GPUs: at a step's end once an interval has passed, and at each epoch's end.

    Values, each since the last reading or at this moment:
        system/cpu_percent: processor time of this process and its children (loaders, followers), in % of the cores
            that it may use.
        system/memory_percent: of the machine's memory, by everyone.
        system/process_memory_gib: of this process and its children; what they share counts once.
        system/gpu<i>_utilization_percent, system/gpu<i>_memory_gib: of each visible GPU, by everyone, where NVML can
            be asked (`pip install nvidia-ml-py`); without it the memory that torch holds on this process's own GPU.

    Args:
        settings: `tracking.system_metrics`.
    """

    def __init__(self, settings: SystemMetricsSection) -> None:
        self._interval_s = settings.interval_s
        self._due = math.inf
        self._logged_step = -1
        self._cores = usable_cores()
        self._process = psutil.Process()
        self._read_at, self._cpu_s = 0.0, dict[int, float]()

    def on_fit_start(self, loop: Loop) -> None:
        """Begin to count."""
        if loop.is_main:
            self._cpu_percent()
            self._due = time.monotonic() + self._interval_s

    def on_step_end(self, loop: Loop) -> None:
        """Log if the interval has passed."""
        if time.monotonic() >= self._due:
            self._log(loop)

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Log, unless this step's values are there already."""
        if loop.is_main and loop.position.step != self._logged_step:
            self._log(loop)

    def _log(self, loop: Loop) -> None:
        self._due, self._logged_step = time.monotonic() + self._interval_s, loop.position.step
        values = {
            "cpu_percent": self._cpu_percent(),
            "memory_percent": float(psutil.virtual_memory().percent),
            "process_memory_gib": sum(_memory(process) for process in self._family()) / _GIB,
            **_gpu_values(),
        }
        loop.log({f"system/{name}": value for name, value in values.items()})

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _cpu_percent(self) -> float:
        """Return the processor time of the family since the last call; who came since counts whole."""
        now, cpu_s = time.monotonic(), {process.pid: _cpu_time(process) for process in self._family()}
        spent = sum(max(0.0, seconds - self._cpu_s.get(pid, 0.0)) for pid, seconds in cpu_s.items())
        passed, self._read_at, self._cpu_s = now - self._read_at, now, cpu_s
        return 100 * spent / (self._cores * passed) if passed > 0 else 0.0


def _cpu_time(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended
        return 0.0
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> float:
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0.0
    return float(getattr(memory, "pss", memory.uss))


def _gpu_values() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    values: dict[str, float] = {}
    try:
        for index in range(torch.cuda.device_count()):
            values[f"gpu{index}_utilization_percent"] = float(torch.cuda.utilization(index))
            values[f"gpu{index}_memory_gib"] = torch.cuda.device_memory_used(index) / _GIB
    except Exception:  # no NVML, or a GPU (a slice of one) that it cannot read
        index = torch.cuda.current_device()
        values[f"gpu{index}_memory_gib"] = torch.cuda.memory_reserved(index) / _GIB
    return values
