"""What scaling needs to know of a model: how many values its parameters hold, in which blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mltrain.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Block", "ModelSize", "ParameterSize", "list_members", "model_of_size", "size_of_model"]

# A transformer block: four projections of attention and a feed-forward part of about eight times one of them.
_TENSORS_OF_A_BLOCK = 12


@dataclass(frozen=True)
class ParameterSize:
    """One parameter.

    Attributes:
        rows: its first dimension, along which FSDP2 divides it.
        row_size: values of a row.
        trainable: whether it has a gradient.
    """

    rows: int
    row_size: int = 1
    trainable: bool = True

    @property
    def values(self) -> int:
        """How many values it holds."""
        return self.rows * self.row_size

    def shard_values(self, processes: int) -> int:
        """Return the values that each rank stores under FSDP2: whole rows, padded so that all ranks have as many."""
        return math.ceil(self.rows / processes) * self.row_size


@dataclass(frozen=True)
class Block:
    """Parameters that FSDP2 gathers together, in the order of the forward pass.

    Attributes:
        parameters: their sizes.
        stays: it stays gathered from the forward to the backward pass: FSDP2's root, what belongs to no inner block.
    """

    parameters: tuple[ParameterSize, ...]
    stays: bool = False

    @property
    def values(self) -> int:
        """How many values it holds."""
        return sum(parameter.values for parameter in self.parameters)

    def gathered_values(self, processes: int) -> int:
        """Return the values that all ranks together hold of it under FSDP2, padding included."""
        return processes * sum(parameter.shard_values(processes) for parameter in self.parameters)

    def gradient_values(self, processes: int) -> int:
        """Return the same of the gradient."""
        return processes * sum(each.shard_values(processes) for each in self.parameters if each.trainable)


@dataclass(frozen=True)
class ModelSize:
    """A model as its blocks, in the order of the forward pass."""

    blocks: tuple[Block, ...]

    @property
    def parameters(self) -> tuple[ParameterSize, ...]:
        """All parameters."""
        return tuple(parameter for block in self.blocks for parameter in block.parameters)

    @property
    def values(self) -> int:
        """How many values they hold."""
        return sum(block.values for block in self.blocks)

    @property
    def trainable_values(self) -> int:
        """How many of them are trained."""
        return sum(parameter.values for parameter in self.parameters if parameter.trainable)


def model_of_size(values: int, blocks: int) -> ModelSize:
    """Return a model of equal blocks of twelve equal parameters, as a transformer's are about.

    Raises:
        ConfigError: no blocks.
    """
    if blocks < 1:
        raise ConfigError(f"is {blocks}", where="--blocks", fix="Use 1 or more.")
    sizes = [_evenly(size, _TENSORS_OF_A_BLOCK) for size in _evenly(values, blocks)]
    return ModelSize(tuple(Block(tuple(ParameterSize(rows) for rows in tensors)) for tensors in sizes))


def size_of_model(model: nn.Module, units: Sequence[nn.Module]) -> ModelSize:
    """Return the size of a model.

    Args:
        model: whole, on any device, `meta` too.
        units: the modules that FSDP2 gathers one at a time, in the order of the forward pass; the rest of the model is
            the root, which is gathered first.
    """
    seen: set[int] = set()
    inner = [Block(_sizes(unit.parameters(), seen)) for unit in units]
    root = Block(_sizes(model.parameters(), seen), stays=True)
    return ModelSize(tuple(block for block in (root, *inner) if block.parameters))


def list_members(model: nn.Module) -> list[nn.Module]:
    """Return the members of a model's outermost module lists: a transformer's blocks, the stages of other networks."""
    from torch import nn

    if isinstance(model, nn.ModuleList):
        return list(model)
    return [member for child in model.children() for member in list_members(child)]


def _sizes(parameters: Iterable[nn.Parameter], seen: set[int]) -> tuple[ParameterSize, ...]:
    """Return the sizes of parameters that are not in another block already; shared ones count once."""
    sizes = []
    for parameter in parameters:
        if id(parameter) not in seen:
            seen.add(id(parameter))
            rows = parameter.shape[0] if parameter.ndim else 1
            sizes.append(ParameterSize(rows, parameter.numel() // max(rows, 1), parameter.requires_grad))
    return tuple(sizes)


def _evenly(values: int, parts: int) -> list[int]:
    """Return `values` as a sum of `parts` numbers that differ by at most one; zeros are left out."""
    share, rest = divmod(values, parts)
    return [size for size in (share + (part < rest) for part in range(parts)) if size]
