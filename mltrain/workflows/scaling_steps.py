"""A small simulation of one optimizer step: when gradients are ready, when the wire is free, and what has to wait.

Two clocks, of the device and of the wire, which carries one exchange at a time. The time of a forward and a backward
pass is spread over the parameters by their size. The optimizer step itself takes no time here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from mltrain.workflows.scaling_model import ModelSize
from mltrain.workflows.scaling_traffic import ALL_REDUCE, GATHER_OR_SCATTER, Network, exchange_bytes, exchange_seconds
from mltrain.workflows.scaling_ways import Precision, Way

__all__ = ["HIDDEN", "Bucket", "Compute", "Job", "StepTimes", "gradient_buckets", "simulate"]

HIDDEN = 0.95
"""Share of a step that is computation from which on its communication counts as hidden."""

_FIRST_BUCKET_BYTES = 2**20  # torch closes the first bucket early, so that the wire starts early


@dataclass(frozen=True)
class Compute:
    """Seconds of a microbatch on one device."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Both passes."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Job:
    """What is simulated: a way to divide a model over processes, and what it runs on."""

    way: Way
    model: ModelSize
    processes: int
    precision: Precision
    network: Network
    bucket_bytes: int
    compute: Compute


@dataclass(frozen=True)
class Bucket:
    """Gradients that are exchanged together.

    Attributes:
        values: how many.
        ready: share of the backward pass after which all of them are there.
    """

    values: int
    ready: float


@dataclass(frozen=True)
class StepTimes:
    """A step of a window.

    Attributes:
        accumulation: microbatches of it.
        sent: bytes that each rank sends.
        wire: seconds in which the wire is used.
        compute: seconds of forward and backward passes.
        step: seconds from the first forward pass to the last exchange.
    """

    accumulation: int
    sent: float
    wire: float
    compute: float
    step: float

    @property
    def exposed(self) -> float:
        """Seconds in which the device waits for the wire."""
        return self.step - self.compute

    @property
    def efficiency(self) -> float:
        """Share of the step in which the device computes."""
        return self.compute / self.step if self.step else 1.0


@dataclass
class _Microbatch:
    """The clocks of one microbatch, in seconds since its start."""

    job: Job
    device: float = 0.0
    wire: float = 0.0
    busy: float = 0.0
    sent: float = 0.0

    def send(self, values: int, value_bytes: int, passes: int) -> float:
        """Exchange values as soon as the device is so far and the wire is free; returns when they have arrived."""
        return self.send_at(self.device, values, value_bytes, passes)

    def send_at(self, ready: float, values: int, value_bytes: int, passes: int) -> float:
        """Do the same with values that are ready at another moment."""
        job, size = self.job, values * value_bytes
        seconds = exchange_seconds(size, job.processes, passes, job.network)
        self.wire = max(self.wire, ready) + seconds
        self.busy += seconds
        self.sent += exchange_bytes(size, job.processes, passes)
        return self.wire

    def compute(self, seconds: float, *, after: float = 0.0) -> None:
        """Let the device compute, once it has what it waits for."""
        self.device = max(self.device, after) + seconds

    def settle(self) -> None:
        """Let the device wait for the wire, as all ways do at the end of a backward pass that exchanges gradients."""
        self.device = max(self.device, self.wire)


@dataclass(frozen=True)
class Simulation:
    """A microbatch within a window and its last one. After each the wire is free, so a window is the sum of its own."""

    inner: _Microbatch = field(repr=False)
    last: _Microbatch = field(repr=False)

    def step(self, accumulation: int) -> StepTimes:
        """Return the step of a window of so many microbatches."""
        before = accumulation - 1
        return StepTimes(
            accumulation=accumulation,
            sent=before * self.inner.sent + self.last.sent,
            wire=before * self.inner.busy + self.last.busy,
            compute=accumulation * self.last.job.compute.total,
            step=before * self.inner.device + self.last.device,
        )

    def hidden_from(self) -> int | None:
        """Return the least accumulation with which a share of `HIDDEN` of the step is computation; None: no one has."""
        # k c >= HIDDEN ((k - 1) inner + last), solved for k
        gain = self.last.job.compute.total - HIDDEN * self.inner.device
        lack = HIDDEN * (self.last.device - self.inner.device)
        if self.step(1).efficiency >= HIDDEN:
            return 1
        return math.ceil(lack / gain) if gain > 0 else None


def simulate(job: Job) -> Simulation:
    """Return what a microbatch costs, within a window and at its end."""
    way = job.way
    if way.shards_weights:
        return Simulation(_sharded(job, exchange=way.every_microbatch), _sharded(job, exchange=True))
    inner = _whole(job, exchange=way.every_microbatch, spread=False)
    return Simulation(inner, _whole(job, exchange=True, spread=way.shards_optimizer))


def gradient_buckets(model: ModelSize, value_bytes: int, bucket_bytes: int) -> Iterator[Bucket]:
    """Yield the buckets of DDP: from the last parameter to the first, closed when they have reached their size.

    Args:
        model: its parameters, in the order of the forward pass.
        value_bytes: bytes of a value of the gradient.
        bucket_bytes: size of a bucket; the first one is of at most a MiB.
    """
    values = done = 0
    limit = min(_FIRST_BUCKET_BYTES, bucket_bytes)
    for parameter in reversed(model.parameters):
        done += parameter.values
        values += parameter.values if parameter.trainable else 0
        if values * value_bytes >= limit:
            yield Bucket(values, done / model.values)
            values, limit = 0, bucket_bytes
    if values:
        yield Bucket(values, 1.0)


def _whole(job: Job, *, exchange: bool, spread: bool) -> _Microbatch:
    """Return a microbatch of DDP, ZeRO-1 or ZeRO-2: gradients leave bucket by bucket during the backward pass."""
    clocks, way = _Microbatch(job), job.way
    clocks.compute(job.compute.forward)
    value_bytes = way.gradient_bytes(job.precision)
    if exchange:
        passes = GATHER_OR_SCATTER if way.shards_optimizer else ALL_REDUCE
        for bucket in gradient_buckets(job.model, value_bytes, job.bucket_bytes):
            ready = clocks.device + bucket.ready * job.compute.backward
            clocks.send_at(ready, bucket.values, value_bytes, passes)
    clocks.compute(job.compute.backward)
    clocks.settle()
    if spread:
        # Each rank has stepped with its share; the others need the new weights.
        clocks.send(job.model.trainable_values, job.precision.compute, GATHER_OR_SCATTER)
        clocks.settle()
    return clocks


def _sharded(job: Job, *, exchange: bool) -> _Microbatch:
    """Return a microbatch of FSDP2: a block computes while the next one's weights are on their way."""
    clocks, way, blocks = _Microbatch(job), job.way, job.model.blocks
    weight_bytes, gradient_bytes = job.precision.compute, way.gradient_bytes(job.precision)

    def gather(index: int, *, wanted: bool) -> float:
        if not wanted or not 0 <= index < len(blocks):
            return 0.0
        return clocks.send(blocks[index].gathered_values(job.processes), weight_bytes, GATHER_OR_SCATTER)

    def again(index: int) -> bool:
        return way.gathers_again and not blocks[index].stays

    arrived = gather(0, wanted=True)
    for index, block in enumerate(blocks):
        clocks.compute(0.0, after=arrived)
        arrived = gather(index + 1, wanted=True)
        clocks.compute(job.compute.forward * block.values / job.model.values)
    arrived = gather(len(blocks) - 1, wanted=again(len(blocks) - 1))
    for index, block in reversed(list(enumerate(blocks))):
        clocks.compute(0.0, after=arrived)
        arrived = gather(index - 1, wanted=index > 0 and again(index - 1))
        clocks.compute(job.compute.backward * block.values / job.model.values)
        if exchange:
            clocks.send(block.gradient_values(job.processes), gradient_bytes, GATHER_OR_SCATTER)
    if exchange:
        clocks.settle()
    return clocks
