"""`training.max_time`: a run in a queue saves and stops before the queue ends it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from mltrain.callbacks.base import Stop
from mltrain.config.duration import duration_text

__all__ = ["stop_after"]


@contextlib.contextmanager
def stop_after(max_time: float | None, stop: Stop, *, started: float) -> Iterator[None]:
    """State the wish to stop when the time is over; the loop acts on it as on a signal's, at its next safe point.

    Args:
        max_time: seconds, or None: no limit. Of several processes one alone needs a limit: they agree on the wish.
        stop: of the run.
        started: when the command began, by `time.monotonic`.
    """
    if max_time is None:
        yield
        return
    left = max(0.0, started + max_time - time.monotonic())
    reason = f"training.max_time ({duration_text(max_time)}) is over"
    timer = threading.Timer(min(left, threading.TIMEOUT_MAX), stop.request, ("interrupted", reason))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
