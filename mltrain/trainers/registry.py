"""Trainers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mltrain.core.registry import Registry

if TYPE_CHECKING:
    from mltrain.trainers.base import Trainer

__all__ = ["TRAINERS", "register_trainer"]

TRAINERS: Registry[type[Trainer]] = Registry(
    "trainer",
    builtin={
        "accelerate": "mltrain.trainers.accelerate",
        "dp": "mltrain.trainers.dp",
        "mixed_precision": "mltrain.trainers.mixed_precision",
        "standard": "mltrain.trainers.standard",
    },
    group="mltrain.trainers",
    config_key="training.trainer_type",
)

register_trainer = TRAINERS.register
