"""SIGTERM and SIGINT while a command is still importing libraries, which would swallow an exception or garble it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from mltrain.core.signal_handling import NOTHING_TO_SAVE, handling

__all__ = ["leave_on_signals"]


@contextlib.contextmanager
def leave_on_signals() -> Iterator[None]:
    """End the process at a signal, with 128 + its number, until somebody else takes the signals over.

    Of the processes of a launch the first one tells.
    """
    tells = os.environ.get("RANK", "0") == "0"

    def leave(number: int, _: FrameType | None) -> None:
        if tells:
            os.write(2, f"{NOTHING_TO_SAVE}\n".encode())
        os._exit(128 + number)

    with handling(leave, signal.SIGTERM, signal.SIGINT):
        yield
