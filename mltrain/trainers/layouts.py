"""Which layout a launch asks for."""

from __future__ import annotations

import os

from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils import is_deepspeed_available

from mltrain.core.errors import HardwareError
from mltrain.trainers.layout import Layout

__all__ = ["check_launch", "check_layout", "new_layout", "shard_as_launched"]

_WHOLE = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
)


def check_launch() -> None:
    """Raise HardwareError where Accelerate would show a traceback of what was launched."""
    if _wishes("FSDP") and os.environ.get("FSDP_VERSION", "1") != "2":
        raise HardwareError(
            "FSDP of version 1 was launched; checkpoints are written of version 2 only",
            where="fsdp_version",
            fix="Set fsdp_version: 2 in the file for Accelerate, as accelerate_configs/fsdp2.yaml does.",
        )
    if _wishes("DEEPSPEED") and not is_deepspeed_available():
        raise HardwareError(
            "DeepSpeed was launched, but it is not installed",
            where="training.trainer_type",
            fix='pip install "mltrain[deepspeed]", or launch DDP or FSDP2: see accelerate_configs/.',
        )


def shard_as_launched(accelerator: Accelerator) -> None:
    """Turn to FSDP or DeepSpeed where the launch asks for it on CPUs, for which Accelerate passes over both."""
    if accelerator.distributed_type != DistributedType.MULTI_CPU:
        return
    if _wishes("FSDP"):
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        accelerator.state.distributed_type = DistributedType.FSDP
    elif _wishes("DEEPSPEED"):
        from mltrain.trainers.deepspeed_layout import turn_to_deepspeed

        turn_to_deepspeed(accelerator)


def check_layout(accelerator: Accelerator) -> None:
    """Raise HardwareError where weights were to lie as they cannot here."""
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP:
        _check_fsdp(accelerator)
    if kind == DistributedType.DEEPSPEED:
        from mltrain.trainers.deepspeed_layout import check_deepspeed

        check_deepspeed(accelerator)
    if kind == DistributedType.XLA:
        raise HardwareError(
            "a TPU was launched; mltrain needs torch 2.10 or newer, and the newest torch_xla (2.9) is for torch 2.9",
            where="training.trainer_type",
            fix="Use GPUs or CPUs: see accelerate_configs/.",
        )
    if kind not in (*_WHOLE, DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise HardwareError(
            f"{kind.value} was launched, for which mltrain has no way to keep weights and checkpoints",
            where="training.trainer_type",
            fix="Launch DDP or FSDP2: see accelerate_configs/.",
        )


def new_layout(accelerator: Accelerator) -> Layout:
    """Return the layout that was launched."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        from mltrain.trainers.deepspeed_layout import DeepSpeedLayout

        return DeepSpeedLayout(accelerator)
    if accelerator.distributed_type != DistributedType.FSDP:
        return Layout(accelerator)
    from mltrain.trainers.sharded_layout import ShardedLayout

    return ShardedLayout(accelerator)


def _check_fsdp(accelerator: Accelerator) -> None:
    if accelerator.mixed_precision not in ("no", "bf16"):
        # In parts there is no loss scaling, without which small gradients of float16 are 0.
        raise HardwareError(
            f"{accelerator.mixed_precision} was launched with FSDP",
            where="mixed_precision",
            fix="Launch bf16, or full precision; or DDP (accelerate_configs/multi_gpu_ddp.yaml).",
        )
    if accelerator.state.fsdp_plugin.activation_checkpointing:
        raise HardwareError(
            "FSDP was launched with its own activation checkpointing",
            where="fsdp_activation_checkpointing",
            fix="Leave it out of the file for Accelerate, and set training.gradient_checkpointing: true.",
        )


def _wishes(kind: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{kind}", "false").lower() == "true"
