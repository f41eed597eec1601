"""Signals to the launcher: they reach every rank, which saves and ends by its own rules."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from mltrain.core.errors import SignalError
from mltrain.core.signal_handling import SAME_SIGNAL_S, handling

__all__ = ["Signals"]


class Signals:
    """Takes SIGTERM, SIGINT and SIGHUP over while `taken_over` lasts.

    A closed terminal (SIGHUP) reaches the ranks as SIGTERM: they save then, though they never had a terminal.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_repeated = False
        self._first_at = 0.0
        self._ranks: Sequence[subprocess.Popen[Any]] = ()

    @contextlib.contextmanager
    def taken_over(self) -> Iterator[None]:
        """Handle the signals while the block runs. SIGHUP stays ignored where it is, as below `nohup`."""
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        with handling(self._handle, *numbers):
            yield

    def forward_to(self, ranks: Sequence[subprocess.Popen[Any]]) -> None:
        """Send what comes from now on, and what came while they were started, to these processes."""
        self._ranks = ranks
        if self.received is not None:
            self._forward(self.received)

    def raise_received(self) -> None:
        """Raise SignalError where a signal has come: for moments when there is no rank to end."""
        if self.received is not None:
            raise SignalError(self.received)

    def _handle(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._first_at = number, now
        elif now - self._first_at > SAME_SIGNAL_S:
            self.is_repeated = True
        self._forward(number)

    def _forward(self, number: int) -> None:
        for rank in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                rank.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
