"""An MLflow store, reached or made: once, however many processes want it at the same time."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mltrain.tracking.mlflow_address import sqlite_path

__all__ = ["connect"]

_LOCK_TIMEOUT_S = 120.0
_NETWORK_DISKS = ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gpfs", "lustre", "nfs", "smb")


def connect(uri: str, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client of the store and the ID of the experiment; both are made if missing.

    A SQLite store is made under a file lock beside it, because MLflow's own creation of one races with itself; it
    keeps its artifacts in `mlartifacts` beside it.

    Args:
        uri: absolute URI of the store.
        experiment: name of the experiment.
    """
    path = sqlite_path(uri)
    if path is None:
        client = MlflowClient(tracking_uri=uri)
        return client, _experiment_id(client, experiment, artifacts=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=_LOCK_TIMEOUT_S):
        _prepare_sqlite(path)
        client = MlflowClient(tracking_uri=uri)
        return client, _experiment_id(client, experiment, artifacts=(path.parent / "mlartifacts").as_uri())


def _experiment_id(client: MlflowClient, name: str, *, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    return str(found.experiment_id)


def _prepare_sqlite(path: Path) -> None:
    """Prove that the file opens, which MLflow would try for 100 s, and give a new one a write-ahead log."""
    new = not path.exists() or path.stat().st_size == 0
    with closing(sqlite3.connect(path)) as database:
        if new and not _on_network_disk(path.parent):
            # Kept in the file. Readers such as the UI then never wait for writers, nor the other way round.
            database.execute("PRAGMA journal_mode=WAL")
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _on_network_disk(folder: Path) -> bool:
    # A write-ahead log needs memory shared between its users, which a network disk does not give.
    holders = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    nearest = max(holders, key=lambda part: len(part.mountpoint), default=None)
    return nearest is not None and nearest.fstype.lower().startswith(_NETWORK_DISKS)
