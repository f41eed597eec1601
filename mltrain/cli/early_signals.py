"""SIGTERM and SIGINT while a command is still importing libraries, which would swallow an exception or garble it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from mltrain.core.signal_handling import handling

__all__ = ["leave_on_signals"]

_TOLD = b"Interrupted before training began: there is nothing to save.\n"


@contextlib.contextmanager
def leave_on_signals() -> Iterator[None]:
    """End the process at a signal, with 128 + its number, until somebody else takes the signals over."""

    def leave(number: int, _: FrameType | None) -> None:
        os.write(2, _TOLD)
        os._exit(128 + number)

    with handling(leave, signal.SIGTERM, signal.SIGINT):
        yield
