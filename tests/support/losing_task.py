"""A plugin: the acting vectors, with further ways in which a process is lost to the others."""

from __future__ import annotations

import os
import threading
from typing import Any

import acting_task
from acting_task import Acting, ActingTask, ActingVectors
from vectors_task import Vectors

from mltrain.callbacks.base import register_callback
from mltrain.core.seeding import SampleGenerator
from mltrain.tasks.base import register_task


def _fail() -> None:
    raise ValueError("the test says so")


def stand_still() -> None:
    """Do nothing for ever."""
    threading.Event().wait()


DEEDS = {"exit": lambda: os._exit(3), "fail": _fail, "stand still": stand_still}
acting_task._DEEDS.update(DEEDS)


class LosingVectors(ActingVectors):
    def load(self, index: int, generator: SampleGenerator | None) -> tuple[Any, int]:
        acting_task.act("load", self.sample_id(index))
        return Vectors.load(self, index, generator)


@register_task("losing_vectors")
class LosingTask(ActingTask):
    def datasets(self) -> dict[str, Any]:
        found = super().datasets()
        return {split: LosingVectors(split, data.size, data.noise, data.bad) for split, data in found.items()}

    def write_reports(self, split: str, *arguments: Any, **more: Any) -> None:
        acting_task.act("reports", split)
        super().write_reports(split, *arguments, **more)


@register_callback("losing")
class Losing(Acting):
    """Registered once more, beside a configuration that names it."""
