"""Which layout a launch asks for."""

from __future__ import annotations

import os

from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin

from mltrain.core.errors import HardwareError
from mltrain.trainers.layout import Layout

__all__ = ["check_layout", "new_layout", "shard_as_launched"]

_WHOLE = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
)


def shard_as_launched(accelerator: Accelerator) -> None:
    """Turn to FSDP where the launch asks for it on CPUs, for which Accelerate passes over it."""
    wished = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if wished and accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        accelerator.state.distributed_type = DistributedType.FSDP


def check_layout(accelerator: Accelerator) -> None:
    """Raise HardwareError where weights were to lie as they cannot here."""
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise HardwareError(
            "FSDP of version 1 was launched; checkpoints are written of version 2 only",
            where="fsdp_version",
            fix="Set fsdp_version: 2 in the file for Accelerate, as accelerate_configs/fsdp2.yaml does.",
        )
    if kind == DistributedType.FSDP and accelerator.state.fsdp_plugin.activation_checkpointing:
        raise HardwareError(
            "FSDP was launched with its own activation checkpointing",
            where="fsdp_activation_checkpointing",
            fix="Leave it out of the file for Accelerate, and set training.gradient_checkpointing: true.",
        )
    if kind not in (*_WHOLE, DistributedType.FSDP):
        raise HardwareError(
            f"{kind.value} was launched, for which mltrain has no way to keep weights and checkpoints",
            where="training.trainer_type",
            fix="Launch DDP or FSDP2: see accelerate_configs/.",
        )


def new_layout(accelerator: Accelerator) -> Layout:
    """Return the layout that was launched."""
    if accelerator.distributed_type != DistributedType.FSDP:
        return Layout(accelerator)
    from mltrain.trainers.sharded_layout import ShardedLayout

    return ShardedLayout(accelerator)
