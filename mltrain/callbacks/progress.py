"""A progress bar, on a terminal only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from mltrain.callbacks.base import Callback, Loop
from mltrain.core.logging import console_is_open, is_terminal, log

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["Progress"]


class Progress(Callback):
    """Shows the windows of the epoch. Redrawn four times a second by a thread of its own; a step only counts."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._redirected: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []

    def on_fit_start(self, loop: Loop) -> None:
        """Open the bar if people watch, and are shown the log."""
        if not (loop.is_main and console_is_open() and is_terminal()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(stderr=True),
            refresh_per_second=4,
            transient=True,
        )
        self._bar.start()
        self._redirect_log()

    def on_epoch_start(self, loop: Loop) -> None:
        """Begin an epoch's bar."""
        if self._bar is not None:
            label = f"epoch {loop.position.epoch + 1}/{loop.num_epochs}"
            self._task = self._bar.add_task(
                label, total=loop.steps_per_epoch, completed=loop.position.window, status=loop.status_text()
            )

    def on_step_end(self, loop: Loop) -> None:
        """Count a window, and show what the trainer says beside it."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=loop.position.window, status=loop.status_text())

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Take the epoch's bar away."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def on_fit_end(self, loop: Loop) -> None:
        """Close the bar."""
        if self._bar is not None:
            for handler, stream in self._redirected:
                handler.setStream(stream)
            self._redirected.clear()
            self._bar.stop()
            self._bar = None

    def _redirect_log(self) -> None:
        """Send the console's log through the bar, which has replaced `sys.stderr`: else lines would run into it."""
        for handler in log.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.get_name() == "console":
                self._redirected.append((handler, handler.stream))
                handler.setStream(sys.stderr)
