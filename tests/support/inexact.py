"""What keeps a run from being exact, as users might write it: draws of their own, and what is logged besides."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from torch import nn
from vectors_task import VectorTask

from mltrain.callbacks.base import Callback, Loop, register_callback
from mltrain.core.files import read_json
from mltrain.tasks.base import Losses, register_task

UNSEEDED = np.random.default_rng()
SEEDED_ONCE = random.Random(7)


class Shifted(VectorTask):
    """Shifts its inputs in training by a draw."""

    def losses(self, model: nn.Module, batch: dict[str, Any]) -> Losses:
        shift = self.draw() if model.training else 0.0
        return super().losses(model, {**batch, "vectors": batch["vectors"] + shift})

    def draw(self) -> float:
        raise KeyError("draw")


register_task("failing")(Shifted)


@register_task("unseeded")
class Unseeded(Shifted):
    """Differs from run to run."""

    def draw(self) -> float:
        return float(UNSEEDED.random())


@register_task("seeded_once")
class SeededOnce(Shifted):
    """Is the same in every run that is not resumed."""

    def draw(self) -> float:
        return SEEDED_ONCE.random()


@register_callback("tells_of_resuming")
class TellsOfResuming(Callback):
    """Logs what only a resumed run has."""

    def on_fit_start(self, loop: Loop) -> None:
        if len(read_json(loop.folder.metadata)["segments"]) > 1:
            loop.log({"mine/resumed_at": float(loop.position.step)})
