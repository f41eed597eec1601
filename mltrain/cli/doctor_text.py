"""The lines that `mltrain doctor` prints: sections of names and texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mltrain.core.byte_text import byte_text
from mltrain.core.count_text import count_text

if TYPE_CHECKING:
    from mltrain.core.machine import Device, Disk, Machine
    from mltrain.workflows.doctor import Diagnosis
    from mltrain.workflows.machine_advice import Advice
    from mltrain.workflows.machine_flaws import Flaw

__all__ = ["sections"]

Rows = Sequence[tuple[str, str]]

_NAMED = ("torch", "accelerate", "transformers", "opacus", "safetensors", "mlflow")


def sections(found: Diagnosis) -> Iterator[tuple[str, Rows]]:
    """Yield titles and their rows; a text may have several lines."""
    machine = found.machine
    yield "Versions", list(_versions(machine))
    yield "Devices", list(_devices(machine))
    yield "This machine", list(_host(machine))
    if found.config is not None and found.config.uses:
        yield "This configuration would use", list(_uses(found.config.uses))
    if fatal := [flaw for flaw in found.flaws if flaw.fatal]:
        yield "To mend before anything can be trained", [_flaw(flaw, "error") for flaw in fatal]
    if warnings := [flaw for flaw in found.flaws if not flaw.fatal]:
        yield "Warnings", [_flaw(flaw, "warning") for flaw in warnings]
    configured = found.config.configured if found.config is not None else {}
    yield "Recommended", [_advice(advice, configured.get(advice.key)) for advice in found.advice]


def _versions(machine: Machine) -> Iterator[tuple[str, str]]:
    host, torch, packages = machine.host, machine.torch, {package.name.lower(): package for package in machine.packages}
    yield "mltrain", f"{_version(packages.get('mltrain'))}, Python {host.python}, {host.platform}"
    parts = [f"CUDA {torch.cuda}" if torch.cuda else "", f"ROCm {torch.hip}" if torch.hip else ""]
    parts += [f"cuDNN {torch.cudnn}" if torch.cudnn else "", f"NCCL {torch.nccl}" if torch.nccl else ""]
    built = ", ".join(filter(None, parts)) or "without CUDA"
    yield "torch", f"{torch.version}, {built}" if torch.version else "cannot be imported"
    named = [packages[name] for name in _NAMED[1:] if name in packages]
    yield "packages", ", ".join(f"{package.name} {_version(package)}" for package in named)
    optional = [package for package in machine.packages if package.purpose]
    if here := [f"{package.name} {package.version}" for package in optional if package.version]:
        yield "optional", ", ".join(here)
    missing = [f"{package.name}: for {package.purpose}" for package in optional if package.version is None]
    yield "not installed", "\n".join(missing) or "nothing optional is missing"


def _devices(machine: Machine) -> Iterator[tuple[str, str]]:
    for device in machine.devices:
        yield f"{device.kind}:{device.index}", _device(device)
    if not machine.devices:
        yield "GPU", "none that torch can use"
    if machine.nvidia.driver:
        yield "NVIDIA driver", machine.nvidia.driver
    processor = machine.processor
    bf16 = {True: "bf16 by hardware", False: "bf16 emulated (slow)", None: "bf16 unknown"}[processor.bf16]
    instructions = processor.instruction_set or processor.architecture
    yield "cpu", f"{processor.name}, {instructions}, {bf16}"
    quota = f", a quota of {processor.quota:g}" if processor.quota is not None else ""
    yield "cores", f"{processor.usable} usable of {processor.present}{quota}"


def _device(device: Device) -> str:
    sizes = "" if device.memory is None else f", {byte_text(device.memory)}"
    sizes += "" if device.free_memory is None else f" ({byte_text(device.free_memory)} free)"
    level = f", capability {device.capability[0]}.{device.capability[1]}" if device.capability else ""
    types = " ".join(f"{name} {'yes' if getattr(device, name) else 'no'}" for name in ("bf16", "fp16", "tf32"))
    return f"{device.name}{sizes}{level}, {types}" + ("" if device.supported else ", not supported by this torch")


def _host(machine: Machine) -> Iterator[tuple[str, str]]:
    host, memory, shared = machine.host, machine.memory, machine.shared_memory
    limit = f"; the container may use {byte_text(memory.limit)}" if memory.limit is not None else ""
    yield "memory", f"{byte_text(memory.total)}, {byte_text(memory.available)} available{limit}"
    yield (
        "shared memory",
        "no such limit"
        if shared is None
        else f"{shared.path}: {byte_text(shared.total)}, {byte_text(shared.free)} free",
    )
    yield "disks", "\n".join(_disk(disk) for disk in machine.disks)
    backends = ", ".join(machine.torch.backends) or "none"
    network = ", ".join(f"{name}{f' ({speed} Mbit/s)' if speed else ''}" for name, speed in host.network.items())
    rdma = f"; InfiniBand or RoCE: {', '.join(host.infiniband)}" if host.infiniband else ""
    yield "processes", f"back ends {backends}; network {network or 'none'}{rdma}"
    soft, hard = ("unlimited" if limit is None else str(limit) for limit in host.open_files)
    yield "open files", f"{soft}, may be raised to {hard}" if soft != hard else soft
    headers = "" if host.python_headers else ", but no Python headers"
    yield "torch.compile", f"{host.compiler}{headers}" if host.compiler else "no C++ compiler"
    yield "container", host.container or "none that shows"
    yield "Hugging Face", "offline (HF_HUB_OFFLINE)" if host.hub_offline else "the hub may be asked"


def _disk(disk: Disk) -> str:
    if disk.problem:
        return f"{disk.purpose} {disk.path}: {disk.problem}"
    closed = ", not writable" if disk.writable is False else ""
    return f"{disk.purpose} {disk.path}: {byte_text(disk.free)} free of {byte_text(disk.total)}{closed}"


def _uses(uses: dict[str, Any]) -> Iterator[tuple[str, str]]:
    processes = count_text(uses["processes"], "process")
    yield "trainer", f"{uses['trainer']} on {uses['device'] or 'no device'} in {uses['precision']}, {processes}"
    samples = f" of {uses['training_samples']:,} training samples" if "training_samples" in uses else ""
    yield "step", f"{uses['window_size']} samples{samples}"
    if "num_workers" in uses:
        yield "loading", _loading(uses)
    if "parameters" in uses:
        trained = f", {uses['trained_parameters']:,} of them trained"
        yield "model", f"{uses['parameters']:,} parameters{trained}"
        memory = f"{byte_text(uses['training_bytes'])} on each process, activations and batches not counted"
        yield "memory", f"weights, gradients and optimizer: {memory}"
        yield "checkpoints", f"{byte_text(uses['checkpoint_bytes'])} each, up to {uses['checkpoints_kept']} at a time"


def _loading(uses: dict[str, Any]) -> str:
    size, pinned = byte_text(uses["batch_bytes"]), "pinned" if uses["pin_memory"] else "not pinned"
    if uses["num_workers"] == 0:
        return f"by the training process, batches of {size}, {pinned}"
    workers = count_text(uses["num_workers"], "worker")
    return f"{workers}, {count_text(uses['prefetch_factor'], 'batch')} of {size} ahead each, {pinned}"


def _flaw(flaw: Flaw, name: str) -> tuple[str, str]:
    return name, f"{flaw.what.rstrip('.')}.\n{flaw.fix}".rstrip()


def _advice(advice: Advice, configured: str | None) -> tuple[str, str]:
    value = "null" if advice.value is None else str(advice.value).lower()
    beside = f" (configured: {configured})" if configured not in (None, value) else ""
    return advice.key, f"{value}{beside}\n{advice.reason}"


def _version(package: Any) -> str:
    return "missing" if package is None or package.version is None else str(package.version)
