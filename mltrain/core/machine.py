"""The facts of a machine that say what can be trained on it and how. Plain values; others gather and judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = [
    "Device",
    "Disk",
    "Host",
    "Machine",
    "Memory",
    "Nvidia",
    "Package",
    "Processor",
    "SharedMemory",
    "TorchBuild",
]


@dataclass(frozen=True)
class Processor:
    """The CPU.

    Attributes:
        present: cores of the machine.
        usable: those that this process may use, by its affinity and its container's quota.
        quota: cores' time that the container allows; None: all.
        instruction_set: the widest that torch's kernels use here; None without torch.
        bf16: whether it multiplies bfloat16 by itself; False: torch emulates it; None without torch.
    """

    name: str
    architecture: str
    present: int
    usable: int
    quota: float | None = None
    instruction_set: str | None = None
    bf16: bool | None = None


@dataclass(frozen=True)
class Memory:
    """The host's memory, in bytes; `limit` is that of the container, None: none."""

    total: int
    available: int
    limit: int | None = None

    @property
    def usable(self) -> int:
        """What this process may use of it."""
        return self.total if self.limit is None else min(self.limit, self.total)


@dataclass(frozen=True)
class SharedMemory:
    """The folder through which loader workers hand over batches; sizes in bytes."""

    path: str
    total: int
    free: int


@dataclass(frozen=True)
class Disk:
    """A folder that a run reads or writes, and the file system that it is, or would be, on; sizes in bytes.

    Attributes:
        purpose: the key that names it, or what it is for.
        writable: whether this process may write there; None: it need not.
        problem: why nothing is known of it, or "".
    """

    purpose: str
    path: str
    total: int = 0
    free: int = 0
    writable: bool | None = None
    problem: str = ""


@dataclass(frozen=True)
class Device:
    """An accelerator that torch sees; memory in bytes, None where nobody can say.

    Attributes:
        capability: compute capability of NVIDIA's.
        bf16, fp16, tf32: whether it computes in these types by itself, and for fp16 not slower than in float32.
        supported: whether this torch has code for it.
    """

    kind: Literal["cuda", "mps", "xpu"]
    index: int
    name: str
    memory: int | None = None
    free_memory: int | None = None
    capability: tuple[int, int] | None = None
    bf16: bool = False
    fp16: bool = False
    tf32: bool = False
    supported: bool = True


@dataclass(frozen=True)
class Nvidia:
    """NVIDIA GPUs as the system sees them, whatever torch does; `driver` is its version, None: none is loaded."""

    gpus: int = 0
    driver: str | None = None


@dataclass(frozen=True)
class TorchBuild:
    """The torch that is imported.

    Attributes:
        version: None: it cannot be imported, for the reason in `problem`.
        problem: also what torch said when it was asked for devices.
        cuda, hip: version that it was built with; None: without.
        architectures: GPUs that it has code for: `sm_90`, or `compute_90`, which newer ones compile at start.
        backends: of torch.distributed: gloo, nccl.
        threads: of a CPU operation.
    """

    version: str | None = None
    problem: str = ""
    cuda: str | None = None
    hip: str | None = None
    cudnn: str | None = None
    nccl: str | None = None
    architectures: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class Package:
    """A Python package.

    Attributes:
        version: None: it is not installed.
        required: the versions that mltrain takes, as pip writes them; None: mltrain works without it.
        purpose: what an optional one is for.
        problem: what is wrong with it, or "".
    """

    name: str
    version: str | None
    required: str | None = None
    purpose: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Host:
    """The rest of the system.

    Attributes:
        container: the kind of container this process is in; None: none that shows.
        open_files: how many files a process may hold open, and to how many it may raise that; None: any number.
        compiler: the C++ compiler that torch.compile would call; None: none is found.
        python_headers: whether extensions can be compiled against this Python, as torch.compile does.
        network: speed of each network interface that is up, in Mbit/s; 0: it does not say.
        infiniband: adapters for remote direct memory access, which NCCL uses.
        visible_devices: CUDA_VISIBLE_DEVICES; None: it is not set.
        hub_offline: whether the Hugging Face hub must not be asked.
    """

    platform: str
    python: str
    container: str | None = None
    open_files: tuple[int | None, int | None] = (None, None)
    compiler: str | None = None
    python_headers: bool = False
    network: Mapping[str, int] = field(default_factory=dict)
    infiniband: tuple[str, ...] = ()
    visible_devices: str | None = None
    hub_offline: bool = False


@dataclass(frozen=True)
class Machine:
    """All of it. `shared_memory` is None where the system has no folder for it and sets no such limit."""

    host: Host
    processor: Processor
    memory: Memory
    shared_memory: SharedMemory | None
    disks: tuple[Disk, ...]
    torch: TorchBuild
    devices: tuple[Device, ...]
    nvidia: Nvidia
    packages: tuple[Package, ...]

    def without_accelerators(self) -> Machine:
        """Return the machine as a run sees it that is to use the CPU."""
        return replace(self, devices=(), nvidia=Nvidia())

    @property
    def usable_devices(self) -> tuple[Device, ...]:
        """The accelerators that this torch can train on."""
        return tuple(device for device in self.devices if device.supported)
