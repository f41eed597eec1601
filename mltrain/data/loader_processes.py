"""The processes of a loader: deaf to the run's signals, and such that any may die at any moment without a hang."""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import multiprocessing.connection
import signal
import sys
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils.signal_handling import _remove_worker_pids  # type: ignore[attr-defined]

__all__ = ["loader_context", "prepare_process", "start", "stop", "take"]

_END_SHOWS_S = 5.0
_RUNNING: weakref.WeakSet[Any] = weakref.WeakSet()


class _Flag:
    """An event that is set once, without a lock.

    `multiprocessing.Event` takes a lock to be read. A process that is killed while it reads leaves the lock taken, and
    whoever asks next, here the training process that clears up, waits for ever.
    """

    def __init__(self) -> None:
        self._value = multiprocessing.RawValue(ctypes.c_bool, False)

    def set(self) -> None:
        self._value.value = True

    def is_set(self) -> bool:
        return bool(self._value.value)


class _Context:
    """What DataLoader asks of multiprocessing, by the platform's default way to start processes."""

    def Event(self) -> _Flag:  # noqa: N802  # multiprocessing's name
        return _Flag()


def loader_context() -> Any:
    """Return a context of multiprocessing for DataLoader."""
    usual = type(multiprocessing.get_context(multiprocessing.get_start_method()))
    return type("LoaderContext", (_Context, usual), {})()


def prepare_process(_: int) -> None:
    """Keep a loader process from printing that the training process has gone while it was handing over a batch."""
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            usual(kind, error, trace)

    sys.excepthook = hook


def start(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return the loader's iterator, its workers deaf to the signals that are meant for the run.

    A terminal and a scheduler signal every process of a group, but only the training process may act: it needs its
    workers to reach the next safe point. They are born with the signals blocked, so there is no moment without.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
    _RUNNING.add(batches)
    return batches


def take(batches: Iterator[Any]) -> Any:
    """Return the next batch. After an error the iterator is of no more use, and its workers only have to be stopped.

    Raises:
        RuntimeError: as torch does it, a worker was killed; or it has ended by itself, with an exit code.
    """
    try:
        return next(batches)
    except BaseException as error:
        _stop_watching(batches)
        if isinstance(error, RuntimeError | OSError | EOFError) and (code := _exit_code(batches)) is not None:
            raise RuntimeError(f"DataLoader worker exited unexpectedly with exit code {code}") from error
        raise


def stop(batches: Iterator[Any]) -> None:
    """Stop the workers of an iterator, whatever state they are in."""
    shut_down = getattr(batches, "_shutdown_workers", None)
    if shut_down is None:
        return
    workers = list(getattr(batches, "_workers", []))
    _stop_watching(batches)
    shut_down()
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def _stop_watching(batches: Any) -> None:
    """Let a worker die in peace: torch's handler of SIGCHLD would raise, wherever the run is, in what clears up too."""
    if getattr(batches, "_worker_pids_set", False):
        batches._worker_pids_set = False
        _remove_worker_pids(id(batches))


def _exit_code(batches: Any) -> int | None:
    """Return the exit code of a worker that has ended by itself, or None: its end may show a little after its error."""
    workers = {worker.sentinel: worker for worker in getattr(batches, "_workers", [])}
    for sentinel in multiprocessing.connection.wait(list(workers), timeout=_END_SHOWS_S):
        # The sentinel tells of the end a little before there is a code to read: joining waits for it.
        workers[sentinel].join(_END_SHOWS_S)
    codes = [worker.exitcode for worker in workers.values() if worker.exitcode is not None]
    return next((code for code in codes if code >= 0), None)


@atexit.register
def _stop_all() -> None:
    # multiprocessing ends workers that are left over with SIGTERM, which they do not hear, and would wait for them.
    for batches in list(_RUNNING):
        stop(batches)
