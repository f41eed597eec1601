"""After each epoch a table: metric, train, validation, difference."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping

from mltrain.callbacks.base import Callback, Loop
from mltrain.core.logging import log

__all__ = ["EpochTable", "epoch_table"]


class EpochTable(Callback):
    """Logs the epoch's table and its mean time a batch."""

    def __init__(self) -> None:
        self._started, self._step, self._seconds = 0.0, 0, 0.0

    def on_epoch_start(self, loop: Loop) -> None:
        """Note the time."""
        self._started, self._step, self._seconds = time.perf_counter(), loop.position.step, 0.0

    def on_step_end(self, loop: Loop) -> None:
        """Note the time of the last window."""
        self._seconds = time.perf_counter() - self._started

    def on_epoch_end(self, loop: Loop, epoch: int, values: Mapping[str, float]) -> None:
        """Log the table."""
        if not loop.is_main:
            return
        steps = max(1, loop.position.step - self._step)
        mean = 1000 * self._seconds / steps
        log.info("%s", epoch_table(values, f"epoch {epoch + 1}/{loop.num_epochs}, mean batch time {mean:.1f} ms"))


def epoch_table(values: Mapping[str, float], title: str) -> str:
    """Return the table as plain text; a difference in % is that of validation against train."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("metric", "train", "validation", "difference", "difference in %"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in [name.removeprefix("train/") for name in values if name.startswith("train/")]:
        train, validation = values[f"train/{name}"], values.get(f"val/{name}")
        if validation is None:
            table.add_row(name, f"{train:.4f}", "-", "-", "-")
            continue
        difference = validation - train
        share = f"{100 * difference / abs(train):+.1f}" if train else "-"
        table.add_row(name, f"{train:.4f}", f"{validation:.4f}", f"{difference:+.4f}", share)
    console = Console(file=io.StringIO(), width=100, color_system=None, markup=False, emoji=False)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join([title, *(line.rstrip() for line in console.file.getvalue().splitlines() if line.strip())])
