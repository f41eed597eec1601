"""What a callback is, what it sees of the loop, and what it may ask of it.

The loop, and where it calls (see `trainers/base.py`):

    on_fit_start
    for each remaining epoch:
        on_epoch_start
        for each remaining window of the epoch:
            on_step_start
            the optimizer step; the position moves on
            on_step_end
        on_validation_start
        validation, where there is a validation split
        on_epoch_end
    on_fit_end          (also when the run was interrupted or failed)

    save_checkpoint, whoever calls it:
        the state is copied; it is written in the background
        on_checkpoint, when it is committed: at one of the next log points or saves, or at the end

What a callback may do: read everything; log values (`loop.log`), ask for the end of the run (`loop.stop.request`), save
(`loop.save_checkpoint`). It may also change the model or the optimizer's settings, under one condition: what it does
must be a function of `loop.position` and of its own `state()`, and be done again in `on_fit_start` or `on_epoch_start`,
which are called after a resume too. (Unfreezing layers from epoch 5 on is such a change.) Otherwise a run that was
interrupted does not continue to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.schema import Config
from mltrain.core.registry import Registry
from mltrain.core.run_folder import RunFolder
from mltrain.data.plan import Position

__all__ = ["CALLBACKS", "Callback", "Loop", "Stop", "overriding", "register_callback"]


class Stop:
    """The wish that the run end. Anyone may state it at any moment; the loop acts on it at the next safe point.

    status: "early_stopped" or "interrupted"; None: go on.
    reason: why, for people.
    signal: the signal number behind it, or None.
    """

    def __init__(self) -> None:
        self.status: str | None = None
        self.reason = ""
        self.signal: int | None = None

    def request(self, status: str, reason: str, *, signal: int | None = None) -> None:
        """State the wish. The first one counts, but an interruption beats an early stop.

        Raises:
            ValueError: the status is neither "early_stopped" nor "interrupted".
        """
        if status not in ("early_stopped", "interrupted"):
            raise ValueError(f"a run cannot end as {status!r}: it is early_stopped or interrupted")
        if self.status is None or (self.status != "interrupted" and status == "interrupted"):
            self.reason, self.signal = reason, signal
            self.status = status  # last: the loop looks at this one


class Loop(Protocol):
    """What a callback sees of the loop.

    plain_model: the model, not wrapped for devices or processes; its parameters are those that are trained.
    evaluated_model: the same, or its moving average where `training.ema` is on.
    """

    config: Config
    folder: RunFolder
    checkpoints: CheckpointStore
    position: Position
    num_epochs: int
    steps_per_epoch: int
    is_main: bool
    stop: Stop
    plain_model: nn.Module
    evaluated_model: nn.Module
    optimizer: Any

    def log(self, values: Mapping[str, float]) -> None:
        """Log named values at the present step, to `metrics.jsonl` and every tracker."""
        ...

    def status_text(self) -> str:
        """Return what the progress line shows beside the counts, or nothing."""
        ...

    def step_values(self) -> dict[str, float]:
        """Return the values of the steps since the last call. Waits for the device; every process must call it."""
        ...

    def save_checkpoint(self) -> str:
        """Save the whole state of the run, in the background, and return the checkpoint's name.

        Every process must call it.
        """
        ...


class Callback:
    """Does nothing at every event; override what is needed. Every process calls every event."""

    def on_fit_start(self, loop: Loop) -> None:
        """Training is about to begin or to continue; the state is restored."""

    def on_epoch_start(self, loop: Loop) -> None:
        """The first window of an epoch, or the first after a resume, comes next."""

    def on_step_start(self, loop: Loop) -> None:
        """An optimizer step is about to be taken; its number is `loop.position.step`."""

    def on_step_end(self, loop: Loop) -> None:
        """An optimizer step is done, and `loop.position` counts it."""

    def on_validation_start(self, loop: Loop) -> None:
        """The last step of the epoch is done; `loop.position` still stands in it."""

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Validation of `epoch` (from 0) is done; `values` holds "train/..." and "val/..."."""

    def on_checkpoint(self, loop: Loop, name: str) -> None:
        """The checkpoint `name` is committed, below `loop.checkpoints.folder`.

        When this comes depends on the disk: nothing that changes what is learned may hang on it.
        """

    def on_fit_end(self, loop: Loop) -> None:
        """Training has ended in whatever way; must not raise."""

    def state(self) -> dict[str, Any]:
        """Return what must survive a stop, as JSON values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back a state."""


def overriding(callbacks: Sequence[Callback], event: str) -> list[Callable[..., None]]:
    """Return the methods of an event that do something: what happens each step is not spent on empty calls."""
    return [getattr(item, event) for item in callbacks if getattr(type(item), event) is not getattr(Callback, event)]


CALLBACKS: Registry[type[Callback]] = Registry(
    "callback", builtin={}, group="mltrain.callbacks", config_key="callbacks"
)

register_callback = CALLBACKS.register
