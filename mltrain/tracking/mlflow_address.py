"""Where a run lies in MLflow: the store's URI, and `tracking/mlflow.json`, which keeps it with the run's ID.

Imports no MLflow: the training process uses this.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mltrain.core.files import read_record, write_json
from mltrain.core.masking import HIDDEN, masked
from mltrain.core.run_folder import RunFolder

__all__ = ["read_address", "run_ids", "sqlite_path", "store_uri", "write_address"]

_FILE_NAME = "mlflow.json"
# What MLflow itself takes for an ID; anything else was not written by it.
_ID = re.compile(r"[A-Za-z0-9][\w-]{0,255}")


def store_uri(folder: RunFolder, setting: str | None) -> str:
    """Return the absolute URI of the store that this run goes to.

    Args:
        folder: the run folder; a run that was in a store before stays in it.
        setting: the URI that the configuration names. None: the environment's MLFLOW_TRACKING_URI, else the store
            that the run was in, else `mlflow.db` (SQLite) in the working folder.
    """
    wanted = setting or os.environ.get("MLFLOW_TRACKING_URI")
    if wanted:
        return _absolute(wanted)
    recorded = str(read_address(folder).get("tracking_uri") or "")
    path = sqlite_path(recorded)
    # A project that was moved has left the recorded database behind.
    if recorded and HIDDEN not in recorded and (path is None or path.exists()):
        return recorded
    return _sqlite_uri(Path.cwd() / "mlflow.db")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI, None for any other."""
    scheme, separator, database = uri.partition(":///")
    if not separator or scheme.partition("+")[0] != "sqlite":
        return None
    if "%" in database or "?" in database:  # whether % is an escape depends on SQLAlchemy's version
        from sqlalchemy.engine import make_url

        database = make_url(uri).database or ""
    return Path(database) if database not in ("", ":memory:") else None


def read_address(folder: RunFolder) -> dict[str, Any]:
    """Return `tracking_uri`, `experiment_id` and `run_id` of the run, and such `others`; empty: it was in no store yet.

    What MLflow did not write, such as an ID with a path in it, says nothing.
    """
    address = read_record(folder.tracking / _FILE_NAME)
    listed = address.pop("others", None)
    others = [entry for entry in listed if _is_address(entry)] if isinstance(listed, list) else []
    if not _is_address(address):
        address = others.pop(0) if others else {}
    return {**address, "others": others} if others else address


def run_ids(folder: RunFolder, uri: str) -> list[str]:
    """Return the IDs that the run may have in this store, the likeliest first.

    A run may have been sent to several stores, and a store be found at another place than it was.
    """
    address = read_address(folder)
    known = [address, *address.get("others", [])]
    here = [entry for entry in known if entry.get("tracking_uri") == masked(uri)]
    return list(dict.fromkeys(str(entry["run_id"]) for entry in [*here, *known] if entry))


def write_address(folder: RunFolder, *, uri: str, experiment_id: str, run_id: str) -> None:
    """Keep where the run lies, and where else it was sent; a password in the URI is not kept."""
    earlier = read_address(folder)
    address = {"tracking_uri": masked(uri), "experiment_id": experiment_id, "run_id": run_id}
    known = [*earlier.pop("others", []), earlier]
    others = [entry for entry in known if entry and entry["tracking_uri"] != address["tracking_uri"]]
    write_json(folder.tracking / _FILE_NAME, {**address, "others": others} if others else address)


def _is_address(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("tracking_uri"), str):
        return False
    ids = [entry.get(key) for key in ("experiment_id", "run_id")]
    return all(isinstance(name, str) and _ID.fullmatch(name) for name in ids)


def _absolute(uri: str) -> str:
    path = sqlite_path(uri)
    if path is None or path.is_absolute():
        return uri
    scheme, _, database = uri.partition(":///")
    return f"{_sqlite_uri(Path.cwd()).replace('sqlite', scheme, 1)}/{database}"


def _sqlite_uri(path: Path) -> str:
    if not {"%", "?"} & set(str(path)):
        return f"sqlite:///{path}"
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
