"""SIGTERM and SIGINT: the run saves at the next safe point and ends; a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from mltrain.callbacks.base import Stop

__all__ = ["end_process_on_second_signal", "stop_on_signals"]

_ends_process = False


def end_process_on_second_signal() -> None:
    """Let a second signal end the process, as suits a command; by default it raises KeyboardInterrupt."""
    global _ends_process
    _ends_process = True


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Turn signals into the wish to stop while the block runs. The handler only sets it; the loop acts on it.

    Only the main thread can take signals over; elsewhere they keep their meaning.
    """

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal is not None and _ends_process:
            os._exit(128 + number)
        if stop.signal is not None:
            raise KeyboardInterrupt
        stop.request("interrupted", f"received {signal.Signals(number).name}", signal=number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
