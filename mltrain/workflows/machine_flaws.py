"""What is wrong with a machine for training, and what to do about it: pure functions of its facts. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mltrain.core.byte_text import byte_text
from mltrain.core.count_text import count_text
from mltrain.core.hardware import automatic_workers
from mltrain.core.machine import Machine
from mltrain.core.shared_memory import PREFETCH, bytes_needed, fitting_workers
from mltrain.workflows.machine_advice import TYPICAL_BATCH, TYPICAL_BYTES

__all__ = ["Flaw", "find_flaws"]

_GIB = 2**30
_FEW_FILES, _LITTLE_MEMORY = 1024, 2 * _GIB
# A disk is nearly full under this share and under this many bytes.
_SCARCE_SHARE, _SCARCE, _NOTHING = 0.1, 10 * _GIB, 64 * 2**20
# The oldest driver that runs programs of a major version of CUDA on Linux (NVIDIA, "Minor Version Compatibility").
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}


@dataclass(frozen=True)
class Flaw:
    """Something to mend; `fatal`: nothing can be trained before."""

    what: str
    fix: str
    fatal: bool = False


def find_flaws(
    machine: Machine, processes: int, *, batch_bytes: int | None = None, precision: str | None = None
) -> list[Flaw]:
    """Return what would go wrong, or slowly, in training with so many processes; the fatal first.

    Args:
        machine: its facts.
        processes: training processes here.
        batch_bytes: size of the largest batch that a loader worker hands over; None: a typical one.
        precision: of the forward passes; None: not decided yet.
    """
    found = [
        *_packages(machine),
        *_gpus(machine),
        *_devices(machine),
        *_precision(machine, precision),
        *_processes(machine, processes),
        *_memory(machine),
        *_shared_memory(machine, processes, batch_bytes),
        *_files(machine),
        *_disks(machine),
        *_compiler(machine),
    ]
    return sorted(found, key=lambda flaw: not flaw.fatal)


def _packages(machine: Machine) -> Iterator[Flaw]:
    if machine.torch.version is None:
        yield Flaw(f"torch cannot be imported ({machine.torch.problem})", "Install torch anew.", fatal=True)
    for package in machine.packages:
        if package.problem and package.required is not None:
            wish = f"pip install '{package.name}{package.required}'"
            yield Flaw(f"{package.name} {package.problem}", f"Run {wish}.", fatal=package.version is None)
        elif package.problem:
            fix = "Install the version and build that match torch, or uninstall it."
            yield Flaw(f"{package.name} {package.problem}; it is used by {package.purpose}", fix)


def _gpus(machine: Machine) -> Iterator[Flaw]:
    """Yield why NVIDIA's GPUs that the system shows are not those that torch sees."""
    torch, nvidia, hidden = machine.torch, machine.nvidia, machine.host.visible_devices
    if not nvidia.gpus or torch.version is None or any(device.kind == "cuda" for device in machine.devices):
        return
    what = f"there {'is' if nvidia.gpus == 1 else 'are'} {count_text(nvidia.gpus, 'NVIDIA GPU')}, but "
    driver = nvidia.driver or ""
    major = int(driver.partition(".")[0]) if driver else 0
    oldest = _OLDEST_DRIVER.get(int((torch.cuda or "0").partition(".")[0]), 0)
    if torch.cuda is None:
        yield Flaw(f"{what}this torch ({torch.version}) is built without CUDA", "Install a build of torch with CUDA.")
    elif not driver:
        fix = "Install it; in a container, start it with the GPUs (docker run --gpus all)."
        yield Flaw(f"{what}no driver is loaded", fix)
    elif major < oldest:
        fix = "Install a newer driver, or a torch built with an older CUDA."
        yield Flaw(f"{what}the driver ({driver}) is too old for CUDA {torch.cuda}, which needs {oldest}", fix)
    elif hidden is not None and hidden.strip() in ("", "-1"):
        yield Flaw(f"{what}CUDA_VISIBLE_DEVICES={hidden!r} hides them", "Unset it.")
    else:
        reason = f": {torch.problem}" if torch.problem else ""
        fix = "See whether nvidia-smi runs here; in a container, start it with the GPUs (docker run --gpus all)."
        yield Flaw(f"{what}torch cannot use them{reason}", fix)


def _devices(machine: Machine) -> Iterator[Flaw]:
    for device in machine.devices:
        name = f"{device.kind}:{device.index} ({device.name})"
        if not device.supported and device.capability is not None:
            level = ".".join(map(str, device.capability))
            fix = "Install a torch with code for it, or hide it with CUDA_VISIBLE_DEVICES; --device cpu always works."
            yield Flaw(f"this torch has no code for {name}, of compute capability {level}", fix)
        elif device.memory and device.free_memory is not None and device.free_memory < device.memory / 2:
            shares = f"{byte_text(device.free_memory)} of {byte_text(device.memory)}"
            yield Flaw(f"{name} has {shares} free: others use it", "See nvidia-smi, or choose another GPU.")
    kinds = {(device.name, device.memory) for device in machine.usable_devices}
    if len(kinds) > 1:
        names = ", ".join(sorted({name for name, _ in kinds}))
        fix = "Name equal ones in CUDA_VISIBLE_DEVICES."
        yield Flaw(f"the GPUs differ ({names}): in step with each other all go at the pace of the slowest", fix)


def _precision(machine: Machine, precision: str | None) -> Iterator[Flaw]:
    if precision in (None, "bfloat16") and not machine.usable_devices and machine.processor.bf16 is False:
        fix = "Train in float32: trainer standard, or accelerate without mixed precision."
        yield Flaw("this processor emulates bfloat16: passes in it would be slower than in float32", fix)


def _processes(machine: Machine, processes: int) -> Iterator[Flaw]:
    gpus = sum(device.kind != "mps" for device in machine.usable_devices)
    cores, backends = machine.processor.usable, machine.torch.backends
    if processes == 1 or machine.torch.version is None:
        return
    if not gpus:
        if processes > cores:
            yield Flaw(f"{processes} processes share {count_text(cores, 'core')}", f"Use at most {cores}.")
        if "gloo" not in backends:
            fix = "Use one process, or a build of torch with gloo."
            yield Flaw("this torch has no gloo, through which processes on CPUs exchange gradients", fix, fatal=True)
        return
    if processes > gpus:
        fix = f"Use --num_processes {gpus} or fewer, or --device cpu."
        yield Flaw(f"{processes} processes need {processes} GPUs, and there are {gpus}", fix, fatal=True)
    if "nccl" not in backends and any(device.kind == "cuda" for device in machine.usable_devices):
        fix = "Install a build of torch with NCCL."
        yield Flaw("this torch has no NCCL: gradients would go through the host's memory", fix)


def _memory(machine: Machine) -> Iterator[Flaw]:
    memory = machine.memory
    usable = memory.usable
    if usable < _LITTLE_MEMORY:
        fix = "Give it more: torch alone takes half a GiB in each process."
        yield Flaw(f"this process may use {byte_text(usable)} of memory", fix)


def _shared_memory(machine: Machine, processes: int, known_bytes: int | None) -> Iterator[Flaw]:
    found = machine.shared_memory
    wish = automatic_workers(machine.processor.usable, local_processes=processes)
    if found is None or not wish:
        return
    batch_bytes = TYPICAL_BYTES if known_bytes is None else known_bytes
    fitting = fitting_workers(wish, PREFETCH, batch_bytes, found.free, processes)
    if fitting != (wish, PREFETCH):
        batch = TYPICAL_BATCH if known_bytes is None else byte_text(known_bytes)
        need = bytes_needed(wish, PREFETCH, batch_bytes, processes)
        each = f"{count_text(wish, 'loader worker')} for each of {count_text(processes, 'process')}"
        yield Flaw(
            f"{found.path} has {byte_text(found.free)} free; {each}, with batches of {batch}, take {byte_text(need)}: "
            f"{fitting[0]} would be used",
            f"Start the container with --shm-size={-(-need // _GIB)}g or --ipc=host; else data.num_workers: 0.",
        )


def _files(machine: Machine) -> Iterator[Flaw]:
    soft, hard = machine.host.open_files
    if soft is not None and soft < _FEW_FILES:
        wish = max(_FEW_FILES, 4096) if hard is None else min(hard, 4096)
        fix = f"Run ulimit -n {wish} before training." if wish > soft else "Ask the administrator for more."
        yield Flaw(f"a process may hold {soft} files open, and loader workers take many", fix)


def _disks(machine: Machine) -> Iterator[Flaw]:
    for disk in machine.disks:
        name = f"{disk.purpose} ({disk.path})"
        is_run = disk.purpose == "run.dir"
        if disk.problem:
            yield Flaw(f"{name}: {disk.problem}", "Name another folder.", fatal=is_run)
        elif disk.writable is False:
            yield Flaw(f"{name} cannot be written to", "Name another folder, or mend its rights.", fatal=is_run)
        elif disk.writable and disk.free < _NOTHING:
            yield Flaw(f"{name} is full: {byte_text(disk.free)} free", "Make room, or name another disk.", fatal=is_run)
        elif disk.writable and disk.free < min(_SCARCE, _SCARCE_SHARE * disk.total):
            share = f"{byte_text(disk.free)} of {byte_text(disk.total)}"
            yield Flaw(f"{name} is nearly full: {share} free", "Make room: checkpoints are written there.")


def _compiler(machine: Machine) -> Iterator[Flaw]:
    host = machine.host
    if host.compiler is None:
        yield Flaw("no C++ compiler is found, which torch.compile needs", "Install g++, or do without torch.compile.")
    elif not host.python_headers:
        fix = "Install them (python3-dev), or do without torch.compile."
        yield Flaw("Python's headers are missing, which torch.compile needs", fix)
