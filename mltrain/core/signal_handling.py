"""Signals taken over for a while."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["NOTHING_TO_SAVE", "SAME_SIGNAL_S", "handling"]

SAME_SIGNAL_S = 0.5
"""A launcher or queue may send a signal to a process and to its group: what follows within this time is the same."""
NOTHING_TO_SAVE = "Interrupted before training began: there is nothing to save."


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Have signals handled while the block runs, and as before after it.

    Only the main thread can take signals over; elsewhere they keep their meaning.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
