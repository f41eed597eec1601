"""Where logged values go: `metrics.jsonl` first, then every tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mltrain.core.logging import log
from mltrain.tracking.base import Tracker
from mltrain.tracking.metrics_log import MetricsLog

__all__ = ["Recorder"]


class Recorder:
    """Passes each record to the metrics file, then to the trackers. A tracker that fails is told once and left out.

    Args:
        metrics: the open metrics file.
        trackers: sinks, not yet opened.
    """

    def __init__(self, metrics: MetricsLog, trackers: Sequence[Tracker]) -> None:
        self._metrics = metrics
        self._trackers = list(trackers)

    @property
    def length(self) -> int:
        """Bytes of the metrics file."""
        return self._metrics.length

    def flush(self) -> None:
        """Force the metrics file to the disk; may be called in another thread."""
        self._metrics.flush()

    def open(self) -> None:
        """Open the trackers."""
        self._each("open")

    def log(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Log named values."""
        record = self._metrics.write(step=step, epoch=epoch, values=values)
        self._each("log", record)

    def close_trackers(self) -> list[str]:
        """End the trackers; returns what each says about where to look."""
        self._each("end")
        self._each("close")
        return [text for tracker in self._trackers if (text := tracker.describe())]

    def close(self) -> None:
        """Close the metrics file."""
        self._metrics.close()

    def _each(self, method: str, *arguments: object) -> None:
        for tracker in list(self._trackers):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:
                log.warning(
                    "Tracker %s failed (%s: %s) and gets no more values; metrics.jsonl has them all.",
                    type(tracker).__name__, type(error).__name__, error,
                )  # fmt: skip
                self._trackers.remove(tracker)
