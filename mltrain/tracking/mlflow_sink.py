"""MLflow's side of the follower: the environment it wants, the store, the run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mltrain.core.run_folder import RunFolder
from mltrain.tracking.run_facts import read_facts
from mltrain.tracking.sink import Sink

__all__ = ["open_sink"]

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # MLflow's own retries would hide for minutes that the training process has ended.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


def open_sink(folder: RunFolder, settings: Mapping[str, Any]) -> Sink:
    """Open the run in the store `tracking_uri` (absolute), in `experiment` (None: the data set's name)."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Imported here: takes seconds, and must come after the environment is set.
    from mltrain.tracking.mlflow_run import open_run
    from mltrain.tracking.mlflow_store import connect

    uri, facts = str(settings["tracking_uri"]), read_facts(folder)
    client, experiment_id = connect(uri, settings.get("experiment") or facts.project)
    return open_run(client, experiment_id, uri, folder, facts)
