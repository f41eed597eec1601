"""When the run is saved, which checkpoint is the best, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mltrain.callbacks.base import Callback, Loop
from mltrain.callbacks.comparison import is_better
from mltrain.config.training import CheckpointingSection
from mltrain.core.logging import log

__all__ = ["Checkpointing"]


class Checkpointing(Callback):
    """Saves every n steps, every n epochs, at each epoch among the best, and after the last.

    Args:
        section: the configuration.
        monitor: metric that ranks epochs, as it is logged ("val/accuracy").
        mode: "min" or "max".
    """

    def __init__(self, section: CheckpointingSection, monitor: str, mode: str) -> None:
        self._section, self._monitor, self._mode = section, monitor, mode
        self._ranking: list[dict[str, Any]] = []

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far: metric, value, epoch (from 1), step and checkpoint name; None before the first."""
        return {"metric": self._monitor, **self._ranking[0]} if self._ranking else None

    def on_fit_start(self, loop: Loop) -> None:
        """Make ranking and pointer agree with what is there.

        A run killed between a commit and its pointer has an old pointer. One that continues from an older checkpoint
        may rank epochs whose own checkpoints a better one has displaced since.
        """
        folder = loop.checkpoints.folder
        lost = [entry for entry in self._ranking if not (folder / entry["checkpoint"]).is_dir()]
        for entry in lost:
            log.warning("%s, among the best, is there no longer; it is left out.", entry["checkpoint"])
        self._ranking = [entry for entry in self._ranking if entry not in lost]
        if loop.is_main and self._ranking:
            loop.checkpoints.point("best", folder / self._ranking[0]["checkpoint"])

    def on_step_end(self, loop: Loop) -> None:
        """Save every n steps; the last step of an epoch is saved after its validation instead."""
        every = self._section.every_n_steps
        if every and loop.position.step % every == 0 and loop.position.window < loop.steps_per_epoch:
            self._save(loop)

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Save if the epoch is due, among the best, or the last."""
        every_epochs, every_steps = self._section.every_n_epochs, self._section.every_n_steps
        entry = self._rank(values.get(self._monitor), epoch, loop.position.step)
        due = bool(every_epochs) and (epoch + 1) % (every_epochs or 1) == 0
        due |= bool(every_steps) and loop.position.step % (every_steps or 1) == 0
        if entry is not None or due or epoch + 1 == loop.num_epochs:
            self._save(loop, entry)

    def on_fit_end(self, loop: Loop) -> None:
        """Delete what is kept no longer."""
        if loop.is_main:
            self._rotate(loop)

    def state(self) -> dict[str, Any]:
        """Return the ranking."""
        return {"ranking": self._ranking}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back a state."""
        self._ranking = [dict(entry) for entry in state["ranking"]]

    def _rank(self, value: float | None, epoch: int, step: int) -> dict[str, Any] | None:
        """Enter an epoch into the ranking; returns its entry if it is among the k best."""
        if value is None or not math.isfinite(value):
            return None
        place = next(
            (i for i, entry in enumerate(self._ranking) if is_better(value, entry["value"], self._mode)),
            len(self._ranking),
        )
        if place >= self._section.keep_top_k:
            return None
        entry: dict[str, Any] = {"value": value, "epoch": epoch + 1, "step": step, "checkpoint": None}
        self._ranking.insert(place, entry)
        del self._ranking[self._section.keep_top_k :]
        return entry

    def _save(self, loop: Loop, entry: dict[str, Any] | None = None) -> None:
        if entry is not None:
            # Named before it is saved: the ranking is part of what is saved.
            entry["checkpoint"] = loop.checkpoints.next_name(loop.position.step)
        name = loop.save_checkpoint()
        if not loop.is_main:
            return
        if entry is not None and entry is self._ranking[0]:
            loop.checkpoints.point("best", loop.checkpoints.folder / name)
            log.info("Best %s so far: %.4f; saved as %s.", self._monitor, entry["value"], name)
        self._rotate(loop)

    def _rotate(self, loop: Loop) -> None:
        keep = loop.checkpoints.list()[: self._section.keep_last]
        ranked = [loop.checkpoints.folder / entry["checkpoint"] for entry in self._ranking]
        loop.checkpoints.rotate([*keep, *ranked])
