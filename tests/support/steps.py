"""What each step of a run does to its state."""

from __future__ import annotations

import hashlib
from typing import Any

from mltrain.callbacks.base import CALLBACKS, Callback, Loop, register_callback
from mltrain.core.digest import model_digest


class StepWatch(Callback):
    """Notes a digest of weights, buffers and optimizer state before the first step and after each."""

    digests: list[str]

    def on_fit_start(self, loop: Loop) -> None:
        self.digests.append(digest(loop))

    def on_step_end(self, loop: Loop) -> None:
        self.digests.append(digest(loop))


def digest(loop: Loop) -> str:
    """Return a digest of what has been learned so far."""
    state = loop.optimizer.state_dict()["state"]
    moments = {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}
    parts = [model_digest(loop.plain_model.state_dict()), model_digest(moments)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def watched_steps() -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the `callbacks` section of a run to watch, and the list that its digests will be in."""
    digests: list[str] = []
    StepWatch.digests = digests
    if "step_watch" not in CALLBACKS.names():
        register_callback("step_watch")(StepWatch)
    return {"step_watch": {}}, digests
