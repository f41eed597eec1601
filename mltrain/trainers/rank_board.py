"""The processes of a run keep an eye on each other: when one is lost, the others say which, where and how, and end."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist
from accelerate import Accelerator

from mltrain.core.errors import TOLD_ELSEWHERE, LostProcessError
from mltrain.core.logging import LogContext
from mltrain.core.signal_handling import handling
from mltrain.data.plan import Position
from mltrain.trainers.failures import explained
from mltrain.trainers.lost_process import PATIENCE_S, SILENCE_S, Verdict, failed, judge, unreachable
from mltrain.trainers.rank_heartbeat import Heartbeat
from mltrain.trainers.rank_sign import Sign, stands_in, stood_in, this_process

__all__ = ["RankBoard", "watched_ranks"]

_PARTING_S = 2.5
# So many processes look for the one that is lost; the rest learn it from them.
_EXAMINERS = 8


class RankBoard:
    """What this process knows of the others of its run. With one process nothing is started.

    Args:
        accelerator: of the run.

    Attributes:
        folder: the run folder, once it is known.
        position: returns where training stands, once there is any.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._rank: int = accelerator.process_index
        self._count: int = accelerator.num_processes
        self._main_thread = threading.get_ident()
        self._heartbeat: Heartbeat | None = None
        self._met: BaseException | None = None
        self.folder: Path | None = None
        self.position: Callable[[], Position] | None = None

    def open(self) -> None:
        """Begin to give signs of life. Every process must call it."""
        if self._count == 1 or not dist.is_initialized() or "MASTER_PORT" not in os.environ:
            return
        own = this_process(self._rank)
        gathered: list[tuple[str, Sign]] = [("", own)] * self._count
        dist.all_gather_object(gathered, (secrets.token_hex(8), own))
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        signs = [sign for _, sign in gathered]
        # A launcher's store lasts longer than one run, and may hold an older board.
        self._heartbeat = Heartbeat(address, f"mltrain/{gathered[0][0]}", signs, self._rank, self._present)

    def close(self) -> None:
        """Tell the others that this process leaves."""
        if (heartbeat := self._heartbeat) is None:
            return
        hosts_store = self._rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        if hosts_store and heartbeat.verdict is not None:
            # The store ends with this process; the others are to know why, the one that hangs too.
            heartbeat.examines, end = True, time.monotonic() + _PARTING_S
            others = [sign.rank for sign in heartbeat.signs if sign.process() in ("there", "unknown")]
            while any(heartbeat.signs[rank].state != "knows" for rank in others) and time.monotonic() < end:
                heartbeat.wait_for_round(end - time.monotonic())
        heartbeat.stop()
        self._heartbeat = None

    def met(self, error: BaseException) -> BaseException:
        """Return what to raise for an error: the same in words; where it means that a process is lost, with which.

        An error of this process's own is told to the others. Takes some seconds at most.
        """
        if error is self._met:
            return error
        # A launcher that has seen one process die sends signals to the others.
        with handling(lambda *_: None, signal.SIGTERM, signal.SIGINT):
            self._met = self._considered(error)
        return self._met

    def _considered(self, error: BaseException) -> BaseException:
        plain = explained(error) or error
        if self._heartbeat is None:
            return plain
        standing = stood_in(error.__traceback__)
        own = replace(self._present(self._heartbeat.signs[self._rank]), place=standing.place, waits=standing.waits)
        if isinstance(plain, LostProcessError):
            return self._found(self._heartbeat, own, timed_out=plain.timed_out)
        told = self._heartbeat.tell(failed(own, plain))
        if told and self._rank != 0 and len(self._here()) > 1:
            plain.add_note(TOLD_ELSEWHERE)
        return plain

    def _found(self, heartbeat: Heartbeat, own: Sign, *, timed_out: bool) -> LostProcessError:
        """Return the error that says which process is lost."""
        began, heartbeat.examines = time.monotonic(), True
        verdict: Verdict | None = None
        while verdict is None:
            heartbeat.wait_for_round(0.5)
            verdict = heartbeat.verdict or self._conclusion(heartbeat, own, time.monotonic() - began, timed_out)
        heartbeat.tell(verdict)
        # Another process may have been quicker; all say the same.
        return self._error(heartbeat.verdict or verdict)

    def _conclusion(self, heartbeat: Heartbeat, own: Sign, waited_s: float, timed_out: bool) -> Verdict | None:
        now = time.monotonic()
        if self._rank >= _EXAMINERS and waited_s < PATIENCE_S:
            return None
        first = heartbeat.signs[0]
        # The death that took the store along came first; who else is gone by now has left because of it.
        if now - heartbeat.answered >= SILENCE_S or (heartbeat.lost and first.process() == "gone"):
            return unreachable(first, own, "{}:{}".format(*heartbeat.address))
        if heartbeat.lost or heartbeat.examined is None:
            return None
        others = [sign for sign in heartbeat.signs if sign.rank != self._rank]
        silent_s = {sign.rank: now - heartbeat.changed[sign.rank] for sign in others}
        # What a store says that no longer answers is old.
        known_s = now - heartbeat.examined if now - heartbeat.answered < SILENCE_S / 2 else 0.0
        return judge(others, silent_s, own=own, timed_out=timed_out, waited_s=known_s)

    def _error(self, verdict: Verdict) -> LostProcessError:
        what = verdict.what
        if self._rank in verdict.ranks:
            what = f"the other processes have given this one up: {what}"
        resume = f"Continue with --resume {self.folder}" if self.folder is not None else "Continue with --resume"
        return LostProcessError(
            what,
            where=verdict.where,
            fix=f"{verdict.advice} {resume}: the checkpoints are whole.".lstrip(),
            told_by=self._teller(verdict),
            exit_code=verdict.exit_code,
        )

    def _teller(self, verdict: Verdict) -> int:
        """Return the rank of the process that prints it on this machine, which has a terminal of its own."""
        here = self._here()
        if verdict.own_error and 0 in verdict.ranks and 0 in here:
            return 0
        return next((rank for rank in here if rank not in verdict.ranks), self._rank)

    def _here(self) -> range:
        """Return the ranks of this machine's processes."""
        first = self._rank - int(os.environ.get("LOCAL_RANK", self._rank))
        return range(first, first + int(os.environ.get("LOCAL_WORLD_SIZE", self._count)))

    def _present(self, sign: Sign) -> Sign:
        """Return a sign of this process with what is so now."""
        standing, position = stands_in(self._main_thread), self.position
        return replace(
            sign,
            epoch=LogContext.epoch,
            phase=LogContext.phase,
            step=position().step if position is not None else None,
            place=standing.place,
            waits=standing.waits,
        )


@contextlib.contextmanager
def watched_ranks(accelerator: Accelerator) -> Iterator[RankBoard]:
    """Watch the processes of the run while the block runs; an error that means that one is lost says which."""
    board = RankBoard(accelerator)
    try:
        board.open()
        yield board
    except BaseException as error:
        plain = board.met(error)
        if plain is error:
            raise
        raise plain from error
    finally:
        board.close()
