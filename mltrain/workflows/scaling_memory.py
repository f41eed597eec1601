"""Memory that training takes on each rank for parameters, gradients and the optimizer's state, in bytes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mltrain.workflows.scaling_model import ModelSize, ParameterSize
from mltrain.workflows.scaling_ways import Precision, Way

__all__ = ["Memory", "memory_of_rank"]


@dataclass(frozen=True)
class Memory:
    """Bytes on one rank.

    Attributes:
        weights: the parameters, as they lie between two steps.
        gradients: as they lie before the optimizer step.
        optimizer: its state, with the float32 copy of the weights where the way keeps one there.
        ema: the moving average of the weights.
        gathered: what lies there for a moment: weights gathered or cast for use, gradients on their way. An estimate.
        activations: as told; nothing is assumed.
    """

    weights: int
    gradients: int
    optimizer: int
    ema: int
    gathered: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(dataclasses.astuple(self))


def memory_of_rank(
    way: Way,
    model: ModelSize,
    processes: int,
    *,
    precision: Precision,
    state_values: float,
    ema: bool,
    bucket_bytes: int,
    activation_bytes: int,
    accumulation: int,
) -> Memory:
    """Return the memory of the rank that has most.

    ZeRO divides all values as one row; FSDP2 divides each parameter by rows and pads it, so that a share of a small
    parameter over many ranks is more than 1/n.

    Args:
        way: how training is divided.
        model: its size.
        processes: how many there are (n).
        precision: bytes of a value.
        state_values: values of the optimizer's state for each trained value: 2 of AdamW.
        ema: whether a moving average of the weights is kept.
        bucket_bytes: size of a bucket of gradients.
        activation_bytes: activations of a microbatch.
        accumulation: microbatches of a window.
    """
    stored, compute = precision.stored, precision.compute
    every = model.parameters
    trained = [parameter for parameter in every if parameter.trainable]
    # Until they are exchanged, gradients are whole.
    waiting = way.shards_weights and accumulation > 1 and not way.every_microbatch
    copies = 1 if way.casts_weights and compute < stored else 0
    weights = _held(every, way.shards_weights, way, processes)
    gradients = _held(trained, way.shards_gradients and not waiting, way, processes)
    return Memory(
        weights=weights * way.weight_bytes(precision),
        gradients=gradients * way.gradient_bytes(precision),
        optimizer=round(_held(trained, way.shards_optimizer, way, processes) * stored * (copies + state_values)),
        ema=weights * stored if ema else 0,
        gathered=_gathered(way, model, precision, bucket_bytes),
        activations=activation_bytes,
    )


def _held(parameters: Sequence[ParameterSize], divided: bool, way: Way, processes: int) -> int:
    """Return how many values of parameters a rank holds."""
    if not divided:
        return sum(parameter.values for parameter in parameters)
    if way.shards_weights:
        return sum(parameter.shard_values(processes) for parameter in parameters)
    return math.ceil(sum(parameter.values for parameter in parameters) / processes)


def _gathered(way: Way, model: ModelSize, precision: Precision, bucket_bytes: int) -> int:
    """Return the bytes of passing copies.

    Autocast keeps a cast copy of each trained weight until the backward pass is done. ZeRO fills one bucket while
    another is on its way. FSDP2 holds the root, the block that computes and the one that arrives, or all blocks; and
    the gradient of a block before it is divided.
    """
    compute = precision.compute
    if way.shards_weights:
        inner = [block.values for block in model.blocks if not block.stays] or [0]
        root = sum(block.values for block in model.blocks if block.stays)
        two = max(map(sum, zip(inner, [*inner[1:], 0], strict=True)))
        weights = root + two if way.gathers_again else model.values
        largest = max(block.values for block in model.blocks)
        return weights * compute + largest * way.gradient_bytes(precision)
    if way.casts_weights:
        return min(2 * bucket_bytes, model.trainable_values * compute)
    return model.trainable_values * compute if compute < precision.stored else 0
