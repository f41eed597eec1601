"""Checkpoints in the background: training waits only until its state is copied."""

from __future__ import annotations

from collections.abc import Callable

from mltrain.checkpoints.snapshot import Snapshot
from mltrain.checkpoints.store import CheckpointStore
from mltrain.core.background import BackgroundWork
from mltrain.core.errors import CheckpointError, MltrainError
from mltrain.core.logging import log
from mltrain.trainers.processes import Processes

__all__ = ["Saving"]


class Saving:
    """Saves that go on while training does. The main process writes; the others learn how it ended.

    Args:
        store: where checkpoints are committed.
        processes: those of the run.
    """

    def __init__(self, store: CheckpointStore, processes: Processes) -> None:
        self._store, self._processes = store, processes
        self._work = BackgroundWork("checkpoint")
        self._name: str | None = None

    def start(self, name: str, take: Callable[[], tuple[Snapshot, Callable[[], None]]]) -> None:
        """Copy the state and begin to save it. The save before must be settled. Every process must call it.

        Args:
            name: of the checkpoint.
            take: called on the main process alone; returns the copy, and what must be done before it is committed.

        Raises:
            CheckpointError: there is no room for it.
        """
        error: MltrainError | None = None
        if self._processes.is_main:
            try:
                snapshot, before = take()
                self._store.require_space(snapshot.num_bytes)
                self._begin(name, snapshot, before)
            except OSError as reason:
                error = self._failed(reason)
            except MltrainError as reason:
                error = reason
        error = self._processes.from_main(error)
        if error is not None:
            raise error
        self._store.reserve(name)
        self._name = name

    def settle(self, *, wait: bool) -> str | None:
        """Return the name of a checkpoint that was committed since the last call. Every process must call it.

        Args:
            wait: for the save in progress, if there is one.

        Raises:
            CheckpointError: it could not be saved. Earlier checkpoints are whole.
        """
        if self._name is None:
            return None
        settled, error = False, None
        if self._processes.is_main:
            try:
                settled = self._work.settle(wait=wait)
            except OSError as reason:
                settled, error = True, self._failed(reason)
        settled, error = self._processes.from_main((settled, error))
        if not settled:
            return None
        name, self._name = self._name, None
        if error is not None:
            raise error
        return name

    def close(self) -> None:
        """Wait for a save that nobody has settled: the run has failed elsewhere, and this may be its last."""
        try:
            self._work.settle(wait=True)
        except Exception as error:
            log.warning("The last checkpoint could not be saved (%s).", error)
        self._work.close()

    def _begin(self, name: str, snapshot: Snapshot, before: Callable[[], None]) -> None:
        retention = self._store.retention

        def commit() -> None:
            before()
            self._store.save(name, snapshot.write, retention)

        self._work.start(commit)

    def _failed(self, reason: OSError) -> CheckpointError:
        return CheckpointError(
            f"the run cannot be saved here ({reason.strerror or reason})",
            where=str(self._store.folder),
            fix="Free some space or mend the permissions, then continue with --resume; earlier checkpoints are whole.",
        )
