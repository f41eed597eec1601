"""`accelerate`: the devices, processes and precision that `accelerate launch` set up."""

from __future__ import annotations

from accelerate import Accelerator, DistributedType

from mltrain.config.schema import Config
from mltrain.core.errors import HardwareError
from mltrain.trainers.base import Trainer
from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.registry import register_trainer

__all__ = ["AccelerateTrainer"]

# Checkpoints are written from the main process's weights; sharded ones would need every process's.
_WHOLE_WEIGHTS = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
)


@register_trainer("accelerate")
class AccelerateTrainer(Trainer):
    """One process or many. In one process and full precision it equals `standard` to the bit."""

    name = "accelerate"

    @classmethod
    def make_accelerator(cls, config: Config) -> Accelerator:
        """Return an Accelerator made from the launch environment."""
        training = config.training
        accelerator = new_accelerator(
            training.device, mixed_precision=None, collective_timeout_s=training.collective_timeout_s
        )
        if accelerator.distributed_type not in _WHOLE_WEIGHTS:
            raise HardwareError(
                f"{accelerator.distributed_type.value} was launched, but weights must be whole on each process",
                where="training.trainer_type",
                fix="Launch DDP (accelerate launch --multi_gpu), or one process.",
            )
        return accelerator
