"""What a model takes on many devices: memory a rank, bytes on the wire, the time of a step, for each way to divide it.

Arithmetic and a small simulation; nothing is trained, and no device is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mltrain.core.errors import ConfigError
from mltrain.workflows.scaling_memory import Memory, memory_of_rank
from mltrain.workflows.scaling_model import ModelSize, list_members, size_of_model
from mltrain.workflows.scaling_steps import Compute, Job, StepTimes, simulate
from mltrain.workflows.scaling_traffic import Network
from mltrain.workflows.scaling_ways import ALONE, WAYS, Precision, Way

if TYPE_CHECKING:
    from torch import nn

    from mltrain.config.schema import Config
    from mltrain.config.training import OptimizerSection
    from mltrain.workflows.request import ConfigLike

__all__ = [
    "PRECISIONS",
    "WAYS",
    "Machine",
    "PlannedWay",
    "ScalingPlan",
    "Work",
    "read_model",
    "scaling_plan",
    "state_values_of",
]

PRECISIONS = ("float32", "bf16-mixed")

GIB = 2**30
_PROBE_SIZE = 1024


@dataclass(frozen=True)
class Machine:
    """What trains.

    Attributes:
        memory: GiB of a device.
        per_machine: devices of a machine.
        link: Gbit/s out of a machine.
        local_link: GB/s from one device to another of the same machine.
        latency, local_latency: microseconds until the first byte arrives, between and within machines.
    """

    memory: float
    link: float
    per_machine: int = 8
    local_link: float = 300.0
    latency: float = 10.0
    local_latency: float = 3.0

    def network(self) -> Network:
        """Return its links in bytes and seconds."""
        return Network(
            link=self.link * 1e9 / 8,
            local_link=self.local_link * 1e9,
            latency=self.latency / 1e6,
            local_latency=self.local_latency / 1e6,
            per_machine=self.per_machine,
        )


@dataclass(frozen=True)
class Work:
    """What a rank does for one microbatch; without any time or FLOPs nothing is said of the time of a step.

    Attributes:
        samples: samples of a microbatch.
        tokens: tokens of a sample; 6 FLOPs a parameter and token (Kaplan et al., "Scaling Laws for Neural Language
            Models", 2020).
        flops_per_sample: FLOPs of a forward and a backward pass, instead.
        device_flops: FLOPs a second of a device.
        efficiency: share of them that the passes attain.
        microbatch_ms: measured milliseconds of a forward and a backward pass, instead of all that.
        gradient_checkpointing: the backward pass computes the forward pass again.
        activations: GiB that a microbatch leaves for the backward pass.
    """

    samples: int = 1
    tokens: int | None = None
    flops_per_sample: float | None = None
    device_flops: float | None = None
    efficiency: float = 0.4
    microbatch_ms: float | None = None
    gradient_checkpointing: bool = False
    activations: float = 0.0

    def compute(self, parameters: int) -> Compute | None:
        """Return the seconds of a microbatch; the backward pass takes twice as long as the forward pass.

        Raises:
            ConfigError: FLOPs without a device, or a device without FLOPs.
        """
        seconds = None if self.microbatch_ms is None else self.microbatch_ms / 1e3
        if seconds is None:
            flops = self.flops_per_sample
            if flops is None and self.tokens is not None:
                flops = 6.0 * parameters * self.tokens
            if (flops is None) != (self.device_flops is None):
                missing = "--device_flops" if self.device_flops is None else "--tokens or --flops_per_sample"
                raise ConfigError("the time of a step needs both FLOPs", where=missing, fix="Give it too.")
            if flops is None or self.device_flops is None:
                return None
            seconds = flops * self.samples / (self.device_flops * self.efficiency)
        forward = seconds / 3
        return Compute(forward, 2 * forward + (forward if self.gradient_checkpointing else 0.0))


@dataclass(frozen=True)
class PlannedWay:
    """A way over a number of processes.

    Attributes:
        way: how training is divided.
        processes: how many there are.
        memory: bytes of a rank, at the largest accumulation asked for.
        fits: whether a device holds that.
        steps: a step at each accumulation asked for; without known compute, of the wire alone.
        hidden_from: accumulation from which on communication hides; None: from none on, or compute is not known.
    """

    way: Way
    processes: int
    memory: Memory
    fits: bool
    steps: tuple[StepTimes, ...]
    hidden_from: int | None


@dataclass(frozen=True)
class ScalingPlan:
    """The answer.

    Attributes:
        model: the size of the model.
        state_values: values of the optimizer's state for each trained value.
        compute: seconds of a microbatch, where they are known.
        rows: by processes, then by way.
    """

    model: ModelSize
    state_values: float
    compute: Compute | None
    rows: tuple[PlannedWay, ...]


def scaling_plan(
    model: ModelSize,
    processes: Sequence[int],
    machine: Machine,
    work: Work,
    *,
    ways: Sequence[str] = tuple(WAYS),
    accumulation: Sequence[int] = (1,),
    precision: str = "float32",
    state_values: float = 2.0,
    ema: bool = False,
    bucket_mib: float | None = None,
) -> ScalingPlan:
    """Return memory, traffic and times of a model for numbers of processes and ways to divide it.

    Args:
        model: from `model_of_size`, or of a configuration.
        processes: one figure each.
        machine, work: what trains, and what a microbatch costs.
        ways: keys of `WAYS`.
        accumulation: microbatches of a window, one figure each.
        precision: of `PRECISIONS`.
        state_values: values of the optimizer's state for each trained value, from `state_values_of`.
        ema: whether a moving average of the weights is kept.
        bucket_mib: size of a bucket of gradients; None: the default of each way.

    Raises:
        ConfigError: a number that cannot be.
    """
    _check(processes, accumulation, machine, work, bucket_mib)
    for key in ways:
        if key not in WAYS:
            raise ConfigError(f"there is no way {key!r}", where="--ways", fix=f"Known: {', '.join(WAYS)}.")
    compute = work.compute(model.values)
    known = compute or Compute(0.0, 0.0)
    network, bytes_of = machine.network(), Precision.named(precision)
    wanted_bucket = None if bucket_mib is None else max(1, round(bucket_mib * 2**20))
    rows = []
    for count in processes:
        for way in [WAYS[key] for key in ways] if count > 1 else [ALONE]:
            bucket_bytes = way.bucket_bytes(bytes_of, wanted_bucket)
            job = Job(way, model, count, bytes_of, network, bucket_bytes, known)
            simulation = simulate(job)
            memory = memory_of_rank(
                way,
                model,
                count,
                precision=bytes_of,
                state_values=state_values,
                ema=ema,
                bucket_bytes=bucket_bytes,
                activation_bytes=round(work.activations * GIB),
                accumulation=max(accumulation),
            )
            rows.append(
                PlannedWay(
                    way,
                    count,
                    memory,
                    fits=memory.total <= machine.memory * GIB,
                    steps=tuple(simulation.step(number) for number in accumulation),
                    hidden_from=simulation.hidden_from() if compute else None,
                )
            )
    return ScalingPlan(model, state_values, compute, tuple(rows))


def read_model(config: ConfigLike, overrides: Mapping[str, Any], *, by_hand: str) -> tuple[ModelSize, Config]:
    """Return the size of a configured model, and its checked configuration.

    Raises:
        ConfigError: the configuration is not valid.
        DataError: the data, which says how many classes there are, cannot be read.
    """
    from mltrain.tasks.base import TASKS
    from mltrain.workflows.request import read_request

    checked = read_request(config, overrides, by_hand=by_hand).load().config
    task = TASKS.get(checked.task)(checked)
    task.continue_from_checkpoint(None)  # the values of the weights do not matter
    model = _built(task.build_model)
    return size_of_model(model, list_members(model)), checked


def state_values_of(section: OptimizerSection) -> float:
    """Return the values that an optimizer keeps for each trained value, measured by a step on a matrix of 1024 x 1024.

    Raises:
        ConfigError: there is no such optimizer, or it refuses its arguments.
    """
    import torch
    from torch import nn

    from mltrain.trainers.optimizers import build_optimizer

    probe = nn.Linear(_PROBE_SIZE, _PROBE_SIZE, bias=False)
    optimizer = build_optimizer(section, probe)
    probe.weight.grad = torch.ones_like(probe.weight)
    optimizer.step()
    kept = optimizer.state[probe.weight].values()
    tensors = [value for value in kept if isinstance(value, torch.Tensor) and value.ndim]
    return sum(tensor.numel() for tensor in tensors) / probe.weight.numel()


def _built(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model whose parameters take no memory, where it can be built so."""
    import torch

    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):  # it reads a value while it is built
        return build()


def _check(
    processes: Sequence[int], accumulation: Sequence[int], machine: Machine, work: Work, bucket_mib: float | None
) -> None:
    for name, counts in (
        ("--processes", processes), ("--accumulation", accumulation), ("--per_machine", [machine.per_machine]),
        ("--samples", [work.samples]), ("--tokens", [1 if work.tokens is None else work.tokens]),
    ):  # fmt: skip
        for count in counts:
            if count < 1:
                raise ConfigError(f"is {count}", where=name, fix="Use 1 or more.")
    for name, value in (
        ("--memory", machine.memory), ("--link", machine.link), ("--local_link", machine.local_link),
        ("--flops_per_sample", work.flops_per_sample), ("--device_flops", work.device_flops),
        ("--efficiency", work.efficiency), ("--microbatch_ms", work.microbatch_ms), ("--bucket_mib", bucket_mib),
    ):  # fmt: skip
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"is {value:g}", where=name, fix="Use a value above 0.")
    if work.efficiency > 1:
        raise ConfigError(f"is {work.efficiency:g}", where="--efficiency", fix="Use a share of at most 1.")
    for name, value in (
        ("--latency_us", machine.latency), ("--local_latency_us", machine.local_latency),
        ("--activation_gib", work.activations),
    ):  # fmt: skip
        if not 0 <= value < math.inf:
            raise ConfigError(f"is {value:g}", where=name, fix="Use 0 or more.")
