"""The processes of one attempt on this machine: how each ended, and how those that are left are stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mltrain.workflows.launch_codes import RankEnd, is_interruption

__all__ = ["Patience", "Ranks"]


@dataclass(frozen=True)
class Patience:
    """How long others are waited for.

    Attributes:
        tell_s: seconds that the others have, after one failed, to notice, to say so and to end.
        stop_s: seconds between SIGTERM and SIGKILL for those that have not.
        settle_s: seconds for another machine to say how its ranks ended, where no restart is to follow.
    """

    tell_s: float = 15.0
    stop_s: float = 5.0
    settle_s: float = 30.0


class Ranks:
    """Processes by rank.

    Args:
        processes: rank -> process, the leader of a session of its own.
        machine: the rank of this machine.
        patience: see there.
    """

    def __init__(self, processes: Mapping[int, subprocess.Popen[Any]], machine: int, patience: Patience) -> None:
        self._processes, self._machine, self._patience = processes, machine, patience
        self._stopped: set[int] = set()
        self._deadline: float | None = None
        self.ends: dict[int, RankEnd] = {}

    @property
    def are_over(self) -> bool:
        """Whether none is left."""
        return len(self.ends) == len(self._processes)

    @property
    def have_failed(self) -> bool:
        """Whether one of them ended so that the others cannot come to a good end."""
        return any(end.code != 0 and not is_interruption(end.code) for end in self.ends.values())

    def look(self) -> None:
        """Take note of those that have ended."""
        for rank, process in self._processes.items():
            if rank not in self.ends and (code := process.poll()) is not None:
                stopped = rank in self._stopped
                self.ends[rank] = RankEnd(rank, self._machine, code, time.monotonic(), stopped)

    def end(self, *, at_once: bool) -> None:
        """Bring the rest to its end, a little each time this is called: wait, then SIGTERM, then SIGKILL.

        Args:
            at_once: wait no longer than for SIGTERM.
        """
        now = time.monotonic()
        first = now + (self._patience.stop_s if at_once else self._patience.tell_s)
        if self._deadline is None:
            self._deadline = first
        elif now <= self._deadline:
            if not self._stopped:  # a signal may have been repeated since others failed
                self._deadline = min(self._deadline, first)
        else:
            # One that is stopped (SIGSTOP), or waits in the kernel, takes no SIGTERM.
            self._send(signal.SIGKILL if self._stopped else signal.SIGTERM)
            self._deadline = now + self._patience.stop_s

    def _send(self, number: signal.Signals) -> None:
        for rank, process in self._processes.items():
            if rank not in self.ends:
                self._stopped.add(rank)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
