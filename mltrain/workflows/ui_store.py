"""Which MLflow store shows a run, a folder of runs, or the working folder; found without making one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mltrain.config.yaml_file import read_yaml
from mltrain.core.errors import ConfigError, RunFolderError
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.mlflow_address import read_address, sqlite_path, store_uri

__all__ = ["Store", "find_store"]

_DATABASE = "mlflow.db"
_HIDDEN = "***"  # in the place of a password
_HOW_TO_GET_ONE = "Train with tracking.mlflow.enabled: true (the default), or name a run folder or --tracking_uri."


@dataclass(frozen=True)
class Store:
    """A store that exists.

    Attributes:
        uri: absolute, with its password if it has one.
        run: the run folder that was named, if one was.
    """

    uri: str
    run: RunFolder | None = None

    @property
    def is_server(self) -> bool:
        """Whether the address is one of a server, which has its own UI."""
        return self.uri.startswith(("http://", "https://", "databricks"))


def find_store(target: Path | None, tracking_uri: str | None) -> Store:
    """Return the store to show.

    Args:
        target: a run folder; a folder of runs, or of a project; None: the working folder.
        tracking_uri: beats what the run or the environment says.

    Raises:
        ConfigError: there is no store, or it is something else.
        RunFolderError: no such folder.
    """
    if target is not None and not target.is_dir():
        raise RunFolderError("no such folder", where=str(target), fix="Name a run folder; mltrain list shows them.")
    run = RunFolder(target.resolve()) if target is not None and (target / "config.yaml").is_file() else None
    if run is not None:
        store = _store_of(run, tracking_uri)
    elif tracking_uri is not None:
        store = Store(_absolute(tracking_uri))
    elif target is None:
        store = Store(_absolute(os.environ.get("MLFLOW_TRACKING_URI") or _sqlite_uri(Path.cwd() / _DATABASE)))
    else:
        store = _store_below(target)
    _check(store.uri)
    return store


def _store_of(run: RunFolder, tracking_uri: str | None) -> Store:
    setting = tracking_uri
    if setting is None:
        recorded = str(read_address(run).get("tracking_uri") or "")
        # Where the run was sent beats where it would be sent from here.
        hidden, path = _HIDDEN in recorded, sqlite_path(recorded)
        usable = recorded and not hidden and (path is None or path.exists())
        setting = recorded if usable else _setting(run) or os.environ.get("MLFLOW_TRACKING_URI")
        if setting is None and hidden:
            setting = recorded
    return Store(_absolute(store_uri(run, setting)), run)


def _setting(run: RunFolder) -> str | None:
    """Return `tracking.mlflow.tracking_uri` of the run's configuration."""
    value: Any = read_yaml(run.config)[0]
    for key in ("tracking", "mlflow", "tracking_uri"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return str(value) if value else None


def _store_below(folder: Path) -> Store:
    """Return the store `mlflow.db` of a folder, else the one that its newest run was sent to."""
    own = folder.resolve() / _DATABASE
    newest = None if own.exists() else next(_sent_runs(folder), None)
    return Store(_sqlite_uri(own)) if newest is None else Store(_store_of(newest, None).uri)


def _sent_runs(folder: Path) -> Iterator[RunFolder]:
    """Yield the runs of a folder that are in some store, newest first."""
    files = [path for path in folder.glob("*/tracking/mlflow.json") if path.is_file()]
    for file in sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        yield RunFolder(file.parent.parent.resolve())


def _absolute(uri: str) -> str:
    """Return the URI with a relative file of this machine made absolute, from the working folder."""
    if "://" in uri or uri.startswith("databricks"):
        return store_uri(RunFolder(Path.cwd()), uri)
    path = url2pathname(urlsplit(uri).path) if uri.startswith("file:") else uri
    return str(Path(path).absolute())


def _sqlite_uri(path: Path) -> str:
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _check(uri: str) -> None:
    if _HIDDEN in uri:
        raise ConfigError(
            "the password of this store is not kept", where=uri, fix="Give the whole address as --tracking_uri."
        )
    path = sqlite_path(uri) or _file_store(uri)
    if path is None:
        return
    if not path.exists():
        raise ConfigError("no MLflow store here yet", where=str(path), fix=_HOW_TO_GET_ONE)
    if path.is_file() and not _holds_experiments(path):
        raise ConfigError("is no MLflow store", where=str(path), fix=_HOW_TO_GET_ONE)


def _file_store(uri: str) -> Path | None:
    if uri.startswith("file:"):
        return Path(url2pathname(urlsplit(uri).path))
    return None if "://" in uri or uri.startswith("databricks") else Path(uri)


def _holds_experiments(database: Path) -> bool:
    """Return whether a file is a SQLite database with MLflow's tables; read only, so that nothing is made."""
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('experiments', 'runs')"
            return bool(connection.execute(query).fetchone()[0] == 2)
    except sqlite3.Error:
        return False
