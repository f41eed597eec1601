"""SIGTERM and SIGINT: a run saves at the next safe point and ends; a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from mltrain.callbacks.base import Stop
from mltrain.core.errors import SignalError

__all__ = ["command_signals", "stop_on_signals"]

_Handler = Callable[[int, FrameType | None], None]

_is_command = False


@contextlib.contextmanager
def command_signals() -> Iterator[None]:
    """Handle signals as suits a command while the block runs.

    Outside of training, where there is nothing to save, the first one raises SignalError; a second one ends the process
    wherever it is. In Python's hands, without this block, signals keep their meaning outside of training, and a second
    one raises KeyboardInterrupt.
    """
    global _is_command
    came = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal came
        if came:
            os._exit(128 + number)
        came = True
        raise SignalError(number)

    _is_command = True
    try:
        with _handled_by(handle):
            yield
    finally:
        _is_command = False


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Turn signals into the wish to stop while the block runs. The handler only sets it; the loop acts on it."""

    # Not `stop.signal`: that may be another process's signal, of which this one gets its own a moment later.
    came = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal came
        if came and _is_command:
            os._exit(128 + number)
        if came:
            raise KeyboardInterrupt
        came = True
        stop.request("interrupted", f"received {signal.Signals(number).name}", signal=number)

    with _handled_by(handle):
        yield


@contextlib.contextmanager
def _handled_by(handle: _Handler) -> Iterator[None]:
    """Only the main thread can take signals over; elsewhere they keep their meaning."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
