"""MLflow, without MLflow in the training process."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from mltrain.core.errors import ConfigError
from mltrain.core.masking import masked
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.base import register_tracker
from mltrain.tracking.followed_tracker import FollowedTracker, typed
from mltrain.tracking.mlflow_address import store_uri

__all__ = ["MLflowTracker"]

_SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


@register_tracker("mlflow")
class MLflowTracker(FollowedTracker):
    """Shows the run in MLflow.

    Settings:
        tracking_uri: the store. None: see `store_uri`.
        experiment: its experiment. None: the data set's name.
        finish_timeout_s: how long `close` waits for the store to have everything.
    """

    name, title = "mlflow", "MLflow"

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self.uri = store_uri(folder, settings.get("tracking_uri"))

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Refuse an address that MLflow cannot have."""
        setting, variable = settings.get("tracking_uri"), os.environ.get("MLFLOW_TRACKING_URI")
        uri = setting or variable
        if not uri or _is_supported(uri):
            return
        raise ConfigError(
            f"{masked(uri)!r} is no address of an MLflow store",
            where="tracking.mlflow.tracking_uri" if setting else "the environment's MLFLOW_TRACKING_URI",
            fix="Write one such as sqlite:///mlflow.db or http://localhost:5000, or leave it out.",
        )

    def sink_settings(self) -> dict[str, Any]:
        """Return the settings with the store's absolute URI."""
        return {**self.settings, "tracking_uri": self.uri}

    def store(self) -> str:
        """Return MLflow with its address."""
        return f"MLflow at {masked(self.uri)}"

    def sent_text(self, sent: int) -> str:
        """Return what was sent, and to which store."""
        return f"{super().sent_text(sent)}{f' to {masked(self.uri)}' if sent else ''}"

    def where(self) -> str:
        """Return the command that shows the store."""
        return f"mltrain ui {typed(self.folder.path)}"


def _is_supported(uri: str) -> bool:
    scheme, separator, rest = uri.partition(":")
    if scheme in ("databricks", "databricks-uc", "uc") and not separator:
        return True
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest.startswith("//"):
        return _files_allowed() and not separator
    if scheme == "file":
        return _files_allowed()
    if scheme in ("http", "https"):
        return bool(rest.strip("/"))
    plugins = [point.name for point in entry_points(group="mlflow.tracking_store")]
    return scheme in (*_SERVERS, *plugins) or scheme.partition("+")[0] in _DATABASES


def _files_allowed() -> bool:
    """Return whether MLflow takes a folder of files for a store, which it refuses by default."""
    return os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
