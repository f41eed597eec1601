"""`accelerate`: the devices, processes and precision that `accelerate launch` set up."""

from __future__ import annotations

from accelerate import Accelerator

from mltrain.config.schema import Config
from mltrain.trainers.base import Trainer
from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.layouts import check_launch, check_layout, shard_as_launched
from mltrain.trainers.registry import register_trainer

__all__ = ["AccelerateTrainer"]


@register_trainer("accelerate")
class AccelerateTrainer(Trainer):
    """One process or many. In one process and full precision it equals `standard` to the bit."""

    name = "accelerate"

    @classmethod
    def make_accelerator(cls, config: Config) -> Accelerator:
        """Return an Accelerator made from the launch environment."""
        check_launch()
        training = config.training
        accelerator = new_accelerator(
            training.device, mixed_precision=None, collective_timeout_s=training.collective_timeout_s
        )
        shard_as_launched(accelerator)
        check_layout(accelerator)
        return accelerator
