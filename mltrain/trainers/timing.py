"""Where the time of a run went, over all its segments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = ["Timing"]

_Item = TypeVar("_Item")


@dataclass
class Timing:
    """Seconds.

    total_s: since the run began, without the time between a stop and a resume.
    train_s: in training windows.
    data_wait_s: of these, waiting for batches.
    """

    earlier_s: float = 0.0
    train_s: float = 0.0
    data_wait_s: float = 0.0
    _started: float = field(default_factory=time.perf_counter, repr=False)
    _mark: tuple[float, int, float] = field(default=(0.0, 0, 0.0), repr=False)

    @property
    def total_s(self) -> float:
        """Seconds since the run began."""
        return self.earlier_s + time.perf_counter() - self._started

    def mark(self, samples_seen: int) -> None:
        """Begin a new interval: what came between, validation say, is not training speed."""
        self._mark = (time.perf_counter(), samples_seen, self.data_wait_s)

    def wait_for(self, items: Iterator[_Item]) -> _Item:
        """Return the next item; the time it takes counts as waiting for data."""
        started = time.perf_counter()
        item = next(items)
        self.data_wait_s += time.perf_counter() - started
        return item

    def take_speed(self, samples_seen: int) -> dict[str, float]:
        """Return samples a second and the share of time spent waiting for data since the last call or mark."""
        started, samples, waited = self._mark
        self.mark(samples_seen)
        seconds = max(self._mark[0] - started, 1e-9)
        return {
            "train/samples_per_s": (samples_seen - samples) / seconds,
            "train/data_wait_share": (self.data_wait_s - waited) / seconds,
        }

    def state(self) -> dict[str, float]:
        """Return the sums, as JSON values."""
        return {"earlier_s": self.total_s, "train_s": self.train_s, "data_wait_s": self.data_wait_s}

    def load(self, state: dict[str, float]) -> None:
        """Take back the sums."""
        self.earlier_s, self.train_s, self.data_wait_s = state["earlier_s"], state["train_s"], state["data_wait_s"]

    def summary(self, samples: int) -> dict[str, float]:
        """Return the figures for `summary.json`; `samples` were seen in `train_s`."""
        speed = samples / self.train_s if self.train_s else 0.0
        figures = {
            "total_s": self.total_s,
            "train_s": self.train_s,
            "samples_per_s": speed,
            "data_wait_s": self.data_wait_s,
        }
        return {name: round(value, 3) for name, value in figures.items()}
