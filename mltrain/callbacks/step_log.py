"""Values of the steps since the last log point, every n steps."""

from __future__ import annotations

from mltrain.callbacks.base import Callback, Loop

__all__ = ["StepLog"]


class StepLog(Callback):
    """Logs loss, learning rate, gradient norm, speed and data wait. The only place that waits for the device."""

    def __init__(self, every_n_steps: int) -> None:
        self._every = every_n_steps

    def on_step_end(self, loop: Loop) -> None:
        """Log at every n-th step."""
        if loop.position.step % self._every == 0:
            loop.log(loop.step_values())
