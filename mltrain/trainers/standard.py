"""`standard`: one device, full precision."""

from __future__ import annotations

from mltrain.config.schema import Config
from mltrain.core.errors import HardwareError
from mltrain.core.hardware import process_count
from mltrain.trainers.base import Trainer
from mltrain.trainers.registry import register_trainer

__all__ = ["StandardTrainer", "refuse_many_processes"]


def refuse_many_processes(name: str) -> None:
    """Raise HardwareError where a launcher started several processes for a trainer that uses one."""
    if process_count() > 1:
        raise HardwareError(
            f"{name} trains in one process, but {process_count()} were launched",
            where="training.trainer_type",
            fix="Add --trainer accelerate, or launch one process.",
        )


@register_trainer("standard")
class StandardTrainer(Trainer):
    """One device, full precision: what the loop does when nothing is overridden."""

    name = "standard"

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse several processes."""
        refuse_many_processes(cls.name)
