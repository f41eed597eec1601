"""The state of an optimizer that DeepSpeed ZeRO has divided, a parameter at a time, as torch has it in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from mltrain.core.errors import CheckpointError, ConfigError

__all__ = ["ZeroOptimizer", "check_divisible"]

# Each element's step depends on its own gradients alone; so they may be taken in flat parts.
_BY_ELEMENT = ("Adadelta", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD")


def check_divisible(optimizer: torch.optim.Optimizer) -> None:
    """Raise ConfigError where flat parts of parameters cannot be trained as whole ones would."""
    name = type(optimizer).__name__
    if name not in _BY_ELEMENT:
        raise ConfigError(
            f"{name.lower()} cannot train parameters that DeepSpeed divides",
            where="optimizer.name",
            fix=f"Choose one of {', '.join(known.lower() for known in _BY_ELEMENT)}, or launch DDP or FSDP2.",
        )


@dataclass(frozen=True)
class _Part:
    """Where this process's part of a parameter lies.

    flat: what torch's optimizer trains: parts of many parameters, one behind the other.
    offset: of the part in it.
    start, length: of the part in the parameter, as a vector.
    """

    flat: torch.Tensor
    offset: int
    start: int
    length: int


class ZeroOptimizer:
    """Looks like torch's optimizer of whole parameters to whom saves, loads or reads it.

    Args:
        optimizer: torch's, which DeepSpeed has taken over.
        engine_optimizer: DeepSpeed's around it.
        groups: the parameters of each group.
        shapes: of these, whole.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        engine_optimizer: Any,
        groups: Sequence[Sequence[torch.nn.Parameter]],
        shapes: Sequence[Sequence[torch.Size]],
    ) -> None:
        self.kind = type(optimizer).__name__
        self._optimizer, self._engine_optimizer = optimizer, engine_optimizer
        self._parameters = [parameter for group in groups for parameter in group]
        self._shapes = [shape for group in shapes for shape in group]
        self._outlines = [[torch.empty(shape, device="meta") for shape in group] for group in shapes]
        self._rank, self._count = dist.get_rank(), dist.get_world_size()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups with their settings, and outlines of their parameters: shapes without values."""
        return [
            {**group, "params": outlines}
            for group, outlines in zip(self._optimizer.param_groups, self._outlines, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each parameter. Every process must call it.

        The n-th tensor is on the host of process n modulo their number; the others have its outline.
        """
        shared = self._shared()
        state: dict[int, dict[str, torch.Tensor]] = {}
        number = 0
        for index, parameter in enumerate(self._parameters if shared else ()):
            state[index] = {}
            for name, value in shared.items():
                # One tensor for all would come back as one, which torch would count up for each.
                own = None if value is None else value.clone()
                state[index][name] = self._whole(parameter, index, name, number % self._count) if own is None else own
                number += 1
        return {"state": state, "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back the state of all parameters.

        Raises:
            CheckpointError: some of them have none, or have taken fewer steps than others.
        """
        state: Mapping[int, Mapping[str, torch.Tensor]] = state_dict["state"]
        self._optimizer.state.clear()
        if not state:
            return
        shared = self._checked(state)
        for flat in self._flats:
            # Some are nothing but padding, and step like the others.
            self._optimizer.state[flat] = {
                name: shared[name].to(flat.device, copy=True) if name in shared else torch.zeros_like(flat)
                for name in state[0]
            }
        for index, parameter in enumerate(self._parameters):
            for part in self._parts(parameter):
                for name in state[0].keys() - shared.keys():
                    values = state[index][name].flatten()[part.start : part.start + part.length]
                    own = self._optimizer.state[part.flat][name]
                    own[part.offset : part.offset + len(values)].copy_(values)

    def _checked(self, state: Mapping[int, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Return what all parameters have in common, such as the number of their steps."""
        shared: dict[str, torch.Tensor] = {}
        for index, shape in enumerate(self._shapes):
            if index not in state or state[index].keys() != state[0].keys():
                raise _uneven(f"that of parameter {index} is not made of what the others' are")
            shared |= {name: value for name, value in state[index].items() if value.shape != shape}
        for values in state.values():
            for name, value in shared.items():
                if not torch.equal(values[name], value):
                    raise _uneven(f"{name} is not the same of all parameters")
        return shared

    def _shared(self) -> dict[str, torch.Tensor | None]:
        """Return what a parameter's state is made of: its values where all parameters have the same, else None."""
        flat, state = next(iter(self._optimizer.state.items()), (None, {}))
        return {
            name: None if flat is not None and value.shape == flat.shape else value.cpu()
            for name, value in state.items()
        }

    def _whole(self, parameter: torch.nn.Parameter, index: int, name: str, keeper: int) -> torch.Tensor:
        """Put a tensor together from all parts of it, for one process."""
        shape = self._shapes[index]
        whole = torch.zeros(shape.numel(), device=self._flats[0].device)
        for part in self._parts(parameter):
            values = self._optimizer.state[part.flat][name][part.offset :][: part.length]
            end = min(part.start + part.length, len(whole))
            whole[part.start : end] = values[: end - part.start]
        dist.reduce(whole, keeper)
        return whole.reshape(shape).to("cpu" if keeper == self._rank else "meta")

    @property
    def _flats(self) -> list[torch.Tensor]:
        """What torch's optimizer trains on this process."""
        divided: list[torch.Tensor] | None = getattr(self._engine_optimizer, "fp32_partitioned_groups_flat", None)
        return divided or [flat for group in self._optimizer.param_groups for flat in group["params"]]

    def _parts(self, parameter: torch.nn.Parameter) -> Iterator[_Part]:
        """Yield this process's part of a parameter, if it has one."""
        inner: Any = parameter
        if hasattr(parameter, "ds_id"):
            outer = self._engine_optimizer
            group, offset, length = outer.grad_position[outer.get_param_id(parameter)]
            flat = outer.fp32_partitioned_groups_flat[group]
            yield _Part(flat, int(offset), self._rank * int(length), int(length))
        elif inner._hp_mapping is not None:
            mapping = inner._hp_mapping
            (flat,) = self._optimizer.param_groups[mapping.param_group_index]["params"]
            inside, outside = mapping.hp_fragment_address, mapping.lp_fragment_address
            yield _Part(flat, int(inside.start), int(outside.start), int(inside.numel))


def _uneven(what: str) -> CheckpointError:
    return CheckpointError(
        f"holds the state of an optimizer that DeepSpeed cannot take over: {what}",
        where="optimizer.safetensors",
        fix="Continue this run with DDP, FSDP2 or in one process.",
    )
