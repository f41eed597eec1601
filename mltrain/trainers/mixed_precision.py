"""`mixed_precision`: one device, autocast to bfloat16 or to float16 with loss scaling."""

from __future__ import annotations

from accelerate import Accelerator

from mltrain.config.schema import Config
from mltrain.core.errors import HardwareError
from mltrain.core.hardware import check_device
from mltrain.trainers.base import Trainer
from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.registry import register_trainer
from mltrain.trainers.standard import refuse_many_processes

__all__ = ["MixedPrecisionTrainer"]

_PRECISION = {"bfloat16": "bf16", "float16": "fp16"}


@register_trainer("mixed_precision")
class MixedPrecisionTrainer(Trainer):
    """Weights in float32; forward passes in `training.amp_dtype`."""

    name = "mixed_precision"

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse several processes, and float16 on a CPU."""
        refuse_many_processes(cls.name)
        if config.training.amp_dtype == "float16" and check_device(config.training.device) == "cpu":
            raise HardwareError(
                "float16 needs a GPU: a CPU has no loss scaling, and most float16 operations are slow there",
                where="training.amp_dtype",
                fix="Set training.amp_dtype: bfloat16.",
            )

    @classmethod
    def make_accelerator(cls, config: Config) -> Accelerator:
        """Return an Accelerator of the wanted precision."""
        training = config.training
        return new_accelerator(training.device, mixed_precision=_PRECISION[training.amp_dtype])
