"""What a model takes on many devices: memory a rank, bytes on the wire, the time of a step, for each way to divide it.

Arithmetic and a small simulation; nothing is trained, and no device is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mltrain.core.errors import ConfigError
from mltrain.workflows.scaling_memory import Memory, memory_of_rank
from mltrain.workflows.scaling_model import ModelSize, list_members, size_of_model
from mltrain.workflows.scaling_steps import Compute, Job, StepTimes, simulate
from mltrain.workflows.scaling_ways import ALONE, WAYS, Precision, Way
from mltrain.workflows.scaling_work import GIB, Machine, Work, check_counts, check_positive

if TYPE_CHECKING:
    from torch import nn

    from mltrain.config.schema import Config
    from mltrain.config.training import OptimizerSection
    from mltrain.workflows.request import ConfigLike

__all__ = [
    "PRECISIONS",
    "WAYS",
    "PlannedWay",
    "ScalingPlan",
    "read_model",
    "scaling_plan",
    "state_values_of",
]

PRECISIONS = ("float32", "bf16-mixed")

_PROBE_SIZE = 1024


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
    machine.check()
    work.check()
    check_counts({"--processes": processes, "--accumulation": accumulation})
    check_positive({"--bucket_mib": bucket_mib})
    chosen, compute = _chosen(ways), work.compute(model.values)
    network, bytes_of = machine.network(), Precision.named(precision)
    wanted_bucket = None if bucket_mib is None else max(1, round(bucket_mib * 2**20))
    rows = []
    for count in processes:
        for way in chosen if count > 1 else [ALONE]:
            bucket_bytes = way.bucket_bytes(bytes_of, wanted_bucket)
            memory = memory_of_rank(
                way, model, count, precision=bytes_of, state_values=state_values, ema=ema, bucket_bytes=bucket_bytes,
                activation_bytes=round(work.activations * GIB), accumulation=max(accumulation),
            )  # fmt: skip
            simulation = simulate(Job(way, model, count, bytes_of, network, bucket_bytes, compute or Compute(0.0, 0.0)))
            fits, steps = memory.total <= machine.memory * GIB, tuple(map(simulation.step, accumulation))
            hidden_from = simulation.hidden_from() if compute else None
            rows.append(PlannedWay(way, count, memory, fits, steps, hidden_from))
    return ScalingPlan(model, state_values, compute, tuple(rows))


def _chosen(ways: Sequence[str]) -> list[Way]:
    """Return the ways of these keys."""
    for key in ways:
        if key not in WAYS:
            raise ConfigError(f"there is no way {key!r}", where="--ways", fix=f"Known: {', '.join(WAYS)}.")
    return [WAYS[key] for key in ways]


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
