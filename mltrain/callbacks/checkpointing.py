"""When the run is saved, which checkpoint is the best, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mltrain.callbacks.base import Callback, Loop
from mltrain.callbacks.comparison import is_better
from mltrain.checkpoints.store import Retention
from mltrain.config.training import CheckpointingSection, metric_name
from mltrain.core.logging import log

__all__ = ["Checkpointing"]

Entry = dict[str, Any]


class Checkpointing(Callback):
    """Saves every n steps, every n epochs, at each epoch among the best by some metric, and after the last.

    Args:
        section: the configuration.
        monitor: metric that decides which checkpoint is the best, as it is logged ("val/accuracy").
        mode: "min" or "max".
        rolls_back: the run goes back to a checkpoint when a loss is not finite, so there has to be one from the start.
    """

    def __init__(self, section: CheckpointingSection, monitor: str, mode: str, *, rolls_back: bool = False) -> None:
        self._section, self._monitor, self._rolls_back = section, monitor, rolls_back
        self._modes = {metric_name(name): mode for name, mode in section.also_best.items()} | {monitor: mode}
        self._rankings: dict[str, list[Entry]] = {name: [] for name in self._modes}
        self._aside: dict[str, list[Entry]] = {}
        self._due: str | None = None

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far: metric, value, epoch (from 1), step and checkpoint name; None before the first."""
        ranking = self._rankings[self._monitor]
        return {"metric": self._monitor, **ranking[0]} if ranking else None

    def on_fit_start(self, loop: Loop) -> None:
        """Make rankings and pointers agree with what is there.

        A run killed between a commit and its pointer has an old pointer. One that continues from an older checkpoint
        may rank epochs whose own checkpoints a better one has displaced since, and go back to one that is gone.
        """
        for name, ranking in self._rankings.items():
            lost = [entry for entry in ranking if not loop.checkpoints.at(entry["checkpoint"]).is_dir()]
            for entry in lost:
                log.warning("%s, among the best, is there no longer; it is left out.", entry["checkpoint"])
            self._rankings[name] = [entry for entry in ranking if entry not in lost]
        if self._due is not None and not loop.checkpoints.at(self._due).is_dir():
            self._due = None
        self._tell(loop)
        if loop.is_main:
            loop.checkpoints.apply(loop.checkpoints.retention)
        if self._rolls_back and self._due is None:
            self._save(loop)

    def on_step_end(self, loop: Loop) -> None:
        """Save every n steps; the last step of an epoch is saved after its validation instead."""
        every = self._section.every_n_steps
        if every and loop.position.step % every == 0 and loop.position.window < loop.steps_per_epoch:
            self._save(loop)

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Save if the epoch is due, among the best, or the last."""
        every_epochs, every_steps = self._section.every_n_epochs, self._section.every_n_steps
        entries = [self._rank(name, values.get(name), epoch, loop) for name in self._rankings]
        due = bool(every_epochs) and (epoch + 1) % (every_epochs or 1) == 0
        due |= bool(every_steps) and loop.position.step % (every_steps or 1) == 0
        if any(entries) or due or epoch + 1 == loop.num_epochs:
            self._save(loop)

    def state(self) -> dict[str, Any]:
        """Return the rankings, and the last checkpoint that was due."""
        return {"rankings": {**self._rankings, **self._aside}, "due": self._due}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back a state; rankings by metrics that count no longer are kept aside, in case they count again."""
        saved = {name: [dict(entry) for entry in ranking] for name, ranking in state["rankings"].items()}
        self._rankings = {name: saved.pop(name, []) for name in self._modes}
        self._aside = saved
        self._due = state["due"]

    def _rank(self, name: str, value: float | None, epoch: int, loop: Loop) -> bool:
        """Enter an epoch into the ranking by a metric; returns whether it is among the k best."""
        if value is None or not math.isfinite(value):
            return False
        ranking, mode = self._rankings[name], self._modes[name]
        place = next((i for i, entry in enumerate(ranking) if is_better(value, entry["value"], mode)), len(ranking))
        if place >= self._section.keep_top_k:
            return False
        step = loop.position.step
        # Named before it is saved: the ranking is part of what is saved.
        checkpoint = loop.checkpoints.next_name(step)
        ranking.insert(place, {"value": value, "epoch": epoch + 1, "step": step, "checkpoint": checkpoint})
        del ranking[self._section.keep_top_k :]
        if place == 0:
            log.info("Best %s so far: %.4f; saving it as %s.", name, value, checkpoint)
        return True

    def _save(self, loop: Loop) -> None:
        self._due = loop.checkpoints.next_name(loop.position.step)
        self._tell(loop)
        loop.save_checkpoint()

    def _tell(self, loop: Loop) -> None:
        """Say which checkpoints are kept from the next save on."""
        names: set[str] = {entry["checkpoint"] for ranking in self._rankings.values() for entry in ranking}
        names |= set() if self._due is None else {self._due}
        best = {self._pointer(name): ranking[0]["checkpoint"] for name, ranking in self._rankings.items() if ranking}
        loop.checkpoints.retention = Retention(self._section.keep_last, frozenset(names), best)
        loop.checkpoints.anchor = self._due

    def _pointer(self, name: str) -> str:
        return "best" if name == self._monitor else f"best-{name.replace('/', '_')}"
