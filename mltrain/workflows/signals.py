"""SIGTERM and SIGINT: a run saves at the next safe point and ends; a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from mltrain.callbacks.base import Stop
from mltrain.core.errors import SignalError
from mltrain.core.logging import log
from mltrain.core.signal_handling import NOTHING_TO_SAVE, SAME_SIGNAL_S, handling

__all__ = ["command_signals", "stop_on_signals", "telling_before_training"]

_is_command = False


class _First:
    """The first signal, and whether another one is meant (see `SAME_SIGNAL_S`)."""

    def __init__(self) -> None:
        self._at: float | None = None

    def is_new(self) -> bool:
        """Return whether this is the first signal, and take note of it."""
        is_new = self._at is None
        if is_new:
            self._at = time.monotonic()
        return is_new

    def is_over(self) -> bool:
        """Return whether the first signal came long enough ago for another one to be meant."""
        return self._at is not None and time.monotonic() - self._at > SAME_SIGNAL_S


@contextlib.contextmanager
def command_signals() -> Iterator[None]:
    """Handle signals as suits a command while the block runs.

    Outside of training, where there is nothing to save, the first one raises SignalError; a second one ends the process
    wherever it is. In Python's hands, without this block, signals keep their meaning outside of training, and a second
    one raises KeyboardInterrupt.
    """
    global _is_command
    first = _First()

    def handle(number: int, _: FrameType | None) -> None:
        if first.is_new():
            raise SignalError(number)
        if first.is_over():
            os._exit(128 + number)

    _is_command = True
    try:
        with handling(handle, signal.SIGTERM, signal.SIGINT):
            yield
    finally:
        _is_command = False


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Turn signals into the wish to stop while the block runs. The handler only sets it; the loop acts on it."""

    # Not `stop.signal`: that may be another process's signal, of which this one gets its own a moment later.
    first = _First()

    def handle(number: int, _: FrameType | None) -> None:
        if first.is_new():
            stop.request("interrupted", f"received {signal.Signals(number).name}", signal=number)
        elif first.is_over() and _is_command:
            os._exit(128 + number)
        elif first.is_over():
            raise KeyboardInterrupt

    with handling(handle, signal.SIGTERM, signal.SIGINT):
        yield


@contextlib.contextmanager
def telling_before_training() -> Iterator[Callable[[], None]]:
    """Say that nothing is saved where a signal ends the block before it calls what it is given: others tell then."""
    is_told_elsewhere = False

    def begin() -> None:
        nonlocal is_told_elsewhere
        is_told_elsewhere = True

    try:
        yield begin
    except KeyboardInterrupt:
        if not is_told_elsewhere:
            log.warning(NOTHING_TO_SAVE)
        raise
