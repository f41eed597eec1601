"""What a tracker is, and the registry of trackers.

The run folder is the source of truth: `metrics.jsonl` holds every logged value, `config.yaml` and `metadata.json` the
parameters, `summary.json` the end. A tracker shows the same elsewhere. It is told of each record as it is logged, but
it may ignore that and follow the folder from another process (see `followed_tracker.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltrain.core.errors import MltrainError
from mltrain.core.registry import Registry
from mltrain.core.run_folder import RunFolder

__all__ = ["TRACKERS", "Tracker", "TrackingError", "register_tracker"]


class TrackingError(MltrainError):
    """A tracker could not be given everything. The run folder has it all."""


class Tracker:
    """A sink. The loop calls it on the main process only; it must return at once and never raise for its own faults.

    Args:
        folder: the run folder.
        settings: its section of the configuration (`tracking.<name>`), as a dict.
    """

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Raise ConfigError, before training, where these settings can lead to nothing. Costs no time."""

    def open(self) -> None:
        """Start; `config.yaml` and `metadata.json` of the run folder are written by now."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take one line of `metrics.jsonl`: `step`, `epoch`, `time` (seconds since 1970) and named values."""

    def end(self) -> None:
        """Learn that the run has ended, in whatever way: each tracker learns it before the first one is closed.

        `summary.json`, the reports and the model are written by now, unless the run failed before.
        """

    def close(self) -> None:
        """Finish; may wait for a time that the settings limit."""

    def describe(self) -> str | None:
        """Return one line that tells people where to look, or None."""
        return None

    def synchronize(self) -> str:
        """Give the sink what it lacks of a run that is over, from the run folder alone; called instead of `open`.

        Returns:
            One line for people: what was sent where.

        Raises:
            TrackingError: the sink did not take everything.
        """
        return "takes values only while a run is trained"


TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    builtin={
        "mlflow": "mltrain.tracking.mlflow_tracker",
        "tensorboard": "mltrain.tracking.tensorboard_tracker",
        "wandb": "mltrain.tracking.wandb_tracker",
    },
    group="mltrain.trackers",
    config_key="tracking",
)

register_tracker = TRACKERS.register
