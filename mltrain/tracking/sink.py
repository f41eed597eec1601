"""A run that is open in a store, as the follower feeds it. One file a store."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mltrain.core.run_folder import RunFolder

__all__ = ["Sink", "State", "open_sink"]

State = Literal["running", "ended", "failed", "died"]
"""How a training process is doing: `ended` when `summary.json` says how, `died` when nobody could say anything."""


class Sink(ABC):
    """Each method may raise, and what it was to do is then done again; so each can be called twice.

    Attributes:
        name: what the run is called there, for the log.
        max_points: the most points that one `send` takes.
    """

    name: str
    max_points = 1000

    @abstractmethod
    def points(self, record: Mapping[str, Any]) -> list[Any]:
        """Return what is to be sent of one line of `metrics.jsonl`: what the store holds already is left out."""

    @abstractmethod
    def send(self, points: Sequence[Any]) -> None:
        """Write at most `max_points` points."""

    @abstractmethod
    def start_over(self) -> None:
        """Expect the records from the first one again: `metrics.jsonl` was cut by a run that was resumed."""

    @abstractmethod
    def end(self, folder: RunFolder, status: str, *, ended_at: float) -> None:
        """Hand over the documents and close the run.

        Args:
            folder: the run folder.
            status: as the summary gives it (completed, interrupted, ...), or `failed` or `died`.
            ended_at: seconds since 1970.
        """


def open_sink(name: str, folder: RunFolder, settings: Mapping[str, Any]) -> Sink:
    """Open the run of this folder in a store: continued where it is there, or else created.

    Args:
        name: the tracker's; `<name>_sink.py` has a function `open_sink(folder, settings)`. Importing it may take long.
        folder: the run folder.
        settings: the tracker's section of the configuration.
    """
    sink: Sink = importlib.import_module(f"mltrain.tracking.{name}_sink").open_sink(folder, settings)
    return sink
