"""Stop when a metric no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltrain.callbacks.base import Callback, Loop
from mltrain.callbacks.comparison import is_better
from mltrain.config.training import EarlyStoppingSection, metric_name

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Asks to stop after `patience` epochs in a row without an improvement of more than `min_delta`."""

    def __init__(self, section: EarlyStoppingSection) -> None:
        self._section, self._monitor = section, metric_name(section.monitor)
        self._best: float | None = None
        self._waited = 0

    def on_fit_start(self, loop: Loop) -> None:
        """Stop a resumed run that had come to this end already, unless its patience was raised."""
        self._stop_if_waited_long_enough(loop)

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Compare the epoch with the best so far."""
        value = values[self._monitor]
        if is_better(value, self._best, self._section.mode, self._section.min_delta):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        self._stop_if_waited_long_enough(loop)

    def state(self) -> dict[str, Any]:
        """Return the best value and the epochs since."""
        return {"best": self._best, "waited": self._waited}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back a state."""
        self._best, self._waited = state["best"], state["waited"]

    def _stop_if_waited_long_enough(self, loop: Loop) -> None:
        if self._waited >= self._section.patience:
            best = "" if self._best is None else f" on {self._best:.6g}"
            loop.stop.request("early_stopped", f"{self._monitor} has not improved{best} for {self._waited} epochs")
