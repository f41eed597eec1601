"""Checkpoints in the background: training waits only until its state is copied."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mltrain.checkpoints.manifest import flushed
from mltrain.checkpoints.parts import note_part, wait_for_parts
from mltrain.checkpoints.snapshot import Snapshot
from mltrain.checkpoints.store import CheckpointStore, Retention
from mltrain.core.background import BackgroundWork
from mltrain.core.errors import CheckpointError, MltrainError
from mltrain.core.logging import log
from mltrain.trainers.processes import Processes

__all__ = ["Saving"]


class Saving:
    """Saves that go on while training does. The first so many processes write; all learn how it ended.

    Each writes its part into one staging folder, and the main one commits that when all parts are there.

    Args:
        store: where checkpoints are committed.
        processes: those of the run.
        writers: how many of them write.
    """

    def __init__(self, store: CheckpointStore, processes: Processes, *, writers: int = 1) -> None:
        self._store, self._processes, self._writers = store, processes, writers
        self._work = BackgroundWork("checkpoint")
        self._hurry = threading.Event()
        self._name: str | None = None

    def start(self, name: str, take: Callable[[], tuple[Snapshot, Callable[[], None]]]) -> None:
        """Copy the state and begin to save it. The save before must be settled. Every process must call it.

        Args:
            name: of the checkpoint.
            take: called on processes that write; returns the copy, and what must be done before it is committed.

        Raises:
            CheckpointError: there is no room for it.
        """
        taken = take() if self._processes.rank < self._writers else None
        size = taken[0].num_bytes * self._writers if taken is not None else 0
        staging = self._processes.done_by_main(lambda: self._staged(name, size))
        self._store.reserve(name)
        self._name = name
        if taken is None:
            return
        snapshot, before = taken
        if self._processes.is_main:
            self._work.start(partial(self._commit, name, snapshot, before, self._store.retention, staging))
        else:
            self._work.start(partial(self._write_part, snapshot, staging))

    def settle(self, *, wait: bool) -> str | None:
        """Return the name of a checkpoint that was committed since the last call. Every process must call it.

        Args:
            wait: for the save in progress, if there is one.

        Raises:
            CheckpointError: it could not be saved. Earlier checkpoints are whole.
        """
        if self._name is None:
            return None
        if self._writers > 1:
            self._settle_parts(wait=wait)
        settled, error = False, None
        if self._processes.is_main:
            settled, error = self._outcome(wait=wait)
        settled, error = self._processes.from_main((settled, error))
        if not settled:
            return None
        name, self._name = self._name, None
        if error is not None:
            raise error
        # This process's part is written, for it is in the checkpoint; the thread may still be about to end.
        self._work.settle(wait=True)
        return name

    def close(self) -> None:
        """Wait for a save that nobody has settled: the run has failed elsewhere, and this may be its last."""
        self._hurry.set()
        try:
            self._work.settle(wait=True)
        except Exception as error:
            log.warning("The last checkpoint could not be saved (%s).", error)
        self._work.close()

    def _staged(self, name: str, num_bytes: int) -> Path:
        """Return a new folder to write a checkpoint of this size into."""
        try:
            self._store.require_space(num_bytes)
            return self._store.stage(name)
        except OSError as reason:
            raise self._failed(reason) from None

    def _commit(
        self, name: str, snapshot: Snapshot, before: Callable[[], None], retention: Retention, staging: Path
    ) -> None:
        before()

        def write(folder: Path) -> dict[str, Any]:
            snapshot.write(folder)
            return wait_for_parts(folder, range(1, self._writers), self._hurry)

        self._store.save(name, write, retention, staging)

    def _write_part(self, snapshot: Snapshot, staging: Path) -> None:
        note_part(staging, self._processes.rank, flushed(snapshot.write(staging)))

    def _outcome(self, *, wait: bool) -> tuple[bool, MltrainError | None]:
        """Return whether this process's own work came to its end, and how it failed."""
        try:
            return self._work.settle(wait=wait), None
        except OSError as reason:
            return True, self._failed(reason)

    def _settle_parts(self, *, wait: bool) -> None:
        """Let all know how the other processes' parts came out; raises the first error of one."""
        own = (False, None) if self._processes.is_main else self._outcome(wait=wait)
        error = next((error for _, error in self._processes.gather(own) if error is not None), None)
        if error is None:
            return
        self._name = None
        if self._processes.is_main:
            self._hurry.set()
            with contextlib.suppress(OSError):
                self._work.settle(wait=True)
        raise error

    def _failed(self, reason: OSError) -> CheckpointError:
        return CheckpointError(
            f"the run cannot be saved here ({reason.strerror or reason})",
            where=str(self._store.folder),
            fix="Free some space or mend the permissions, then continue with --resume; earlier checkpoints are whole.",
        )
