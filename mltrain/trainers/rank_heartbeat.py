"""The thread that gives a process's signs of life to the store of the run, and reads those of the others.

It alone speaks to the store: one that does not answer may hold up who asks it for ever. The main thread waits for the
thread's rounds, and for no longer than it chooses.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from mltrain.core.logging import log
from mltrain.trainers.lost_process import Verdict
from mltrain.trainers.rank_sign import Sign

__all__ = ["Heartbeat"]

_BEAT_S = 0.5
_ANSWER_S = 3.0
_CONNECT = timedelta(seconds=3)
_VERDICT = "verdict"


class Heartbeat:
    """Signs of life, twice a second. In each round the thread learns of a verdict, and the first process's sign.

    Args:
        address: host and port of the store. The heartbeat has a connection of its own.
        name: of the board in the store; the same in all processes, new for each board.
        signs: the first signs of all processes, by rank.
        rank: of this process.
        sign: given the first sign of this process, returns the present one.

    Attributes:
        signs: the latest of all processes, by rank; but the first process's they are read while `examines` is set.
        changed: when each of them was new, by `time.monotonic`.
        answered: when the store last answered, likewise.
        lost: whether the connection to the store has broken: it does not come back, and the signs grow old.
        examined: since when the signs of all have been read, likewise; None while they are not.
        verdict: on a process that is lost, once there is one.
        examines: whether this process looks for the lost one.
    """

    def __init__(
        self, address: tuple[str, int], name: str, signs: Sequence[Sign], rank: int, sign: Callable[[Sign], Sign]
    ) -> None:
        self.address, self._name, self._rank, self._sign = address, name, rank, sign
        self._main_thread = threading.get_ident()
        self._told: Verdict | None = None
        self._leaves = False
        self._wake, self._round = threading.Event(), threading.Condition()
        self._rounds = 0
        self.signs = list(signs)
        self.changed = [time.monotonic()] * len(signs)
        self.answered = time.monotonic()
        self.lost = False
        self.examined: float | None = None
        self.verdict: Verdict | None = None
        self.examines = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def tell(self, verdict: Verdict) -> bool:
        """Give a verdict to all, unless there is one; returns whether the store has one then. Waits a few seconds."""
        self._told = verdict
        self.wait_for_round(_ANSWER_S)
        return self.verdict is not None

    def wait_for_round(self, timeout_s: float) -> None:
        """Return when a whole round has been made from now on, or after this time."""
        with self._round:
            # The round under way may have begun too early.
            wanted = self._rounds + 2
            end = time.monotonic() + timeout_s
            while self._rounds < wanted and (left := end - time.monotonic()) > 0:
                self._wake.set()
                self._round.wait(min(left, _BEAT_S))

    def stop(self) -> None:
        """Give a last sign and end."""
        self._leaves = True
        self._wake.set()
        self._thread.join(_ANSWER_S)

    # ---- in the thread ---------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        host, port = self.address
        store: Any = None
        with contextlib.suppress(RuntimeError):
            client = dist.TCPStore(host, port, timeout=_CONNECT, wait_for_workers=False)  # type: ignore[attr-defined]
            store = dist.PrefixStore(self._name, client)  # type: ignore[attr-defined]
        self.lost = store is None
        while True:
            leaves = self._leaves
            if store is not None:
                try:
                    self._exchange(store)
                except RuntimeError:  # a store whose process has ended does not come back
                    store, self.lost = None, True
            with self._round:
                self._rounds += 1
                self._round.notify_all()
            if leaves:
                return
            self._wake.wait(_BEAT_S)
            self._wake.clear()

    def _exchange(self, store: Any) -> None:
        """Give a sign, and take in what there is for this process."""
        state = "knows" if self.verdict else "examines" if self.examines else "left" if self._leaves else "works"
        own = replace(
            self._sign(self.signs[self._rank]), beat=self._rounds + 1, at=time.strftime("%H:%M:%S"), state=state
        )
        self.signs[self._rank] = own
        began, examines = time.monotonic(), self.examines
        store.set(str(self._rank), own.text())
        # This reads what is there, or writes what is told where nothing is: the first verdict stays.
        found = store.compare_set(_VERDICT, "", self._told.text() if self._told is not None else "")
        if found and self.verdict is None:
            self._take_verdict(Verdict.read(found))
        for rank in range(len(self.signs)) if examines else (0,):
            text = b"" if rank == self._rank else store.compare_set(str(rank), "", "")
            if text and (sign := Sign.read(text)).beat != self.signs[rank].beat:
                self.signs[rank], self.changed[rank] = sign, began
        self.answered = time.monotonic()
        if examines and self.examined is None:
            self.examined = self.answered

    def _take_verdict(self, verdict: Verdict) -> None:
        self.verdict = verdict
        if self._rank in verdict.ranks and not verdict.own_error:
            frame = sys._current_frames().get(self._main_thread)
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            log.error("The other processes have given this one up: %s. It stands here:\n%s", verdict.what, stack)
