"""Send what the trackers of earlier runs missed, from their run folders alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mltrain.config.schema import TrackingSection
from mltrain.config.yaml_file import read_yaml
from mltrain.core.errors import ConfigError, MltrainError, RunFolderError
from mltrain.core.plugins import load_plugins
from mltrain.core.run_folder import RunFolder, open_run_folder
from mltrain.tracking.base import TRACKERS

__all__ = ["Synchronized", "sync"]


@dataclass(frozen=True)
class Synchronized:
    """What became of one run in one tracker.

    Attributes:
        run: the run folder, as it was named.
        tracker: the tracker's name; empty where the run itself cannot be used.
        text: what was sent where, for people.
        error: why not everything was sent, or None.
    """

    run: str
    tracker: str
    text: str
    error: MltrainError | None


def sync(
    runs: Sequence[str | Path], *, to: Sequence[str] = (), tracking_uri: str | None = None
) -> Iterator[Synchronized]:
    """Give trackers what they lack of runs that are over. Sending again what they have adds nothing.

    A run that is being trained has followers of its own and is refused.

    Args:
        runs: run folders.
        to: names of trackers, enabled in the run's configuration or not. None: those that it enables.
        tracking_uri: MLflow store to send to instead of the configuration's.

    Yields:
        One result a run and tracker: what fails for one keeps no other from being sent.

    Raises:
        ConfigError: no tracker has such a name.
    """
    names = list(to) or (["mlflow"] if tracking_uri is not None else [])
    if tracking_uri is not None and "mlflow" not in names:
        raise ConfigError("is for MLflow alone", where="--tracking_uri", fix="Leave it out, or add --to mlflow.")
    for run in runs:
        try:
            folder = open_run_folder(Path(run))
            settings = _settings(folder, names)
            with folder.lock():
                for name, values in settings.items():
                    address = {"tracking_uri": tracking_uri} if tracking_uri is not None and name == "mlflow" else {}
                    yield _send(str(run), folder, name, {**values, **address})
        except MltrainError as error:
            yield Synchronized(str(run), "", "", error)


def _send(run: str, folder: RunFolder, name: str, settings: Mapping[str, Any]) -> Synchronized:
    try:
        kind = TRACKERS.get(name)
        kind.check(settings)
        return Synchronized(run, name, kind(folder, settings).synchronize(), None)
    except MltrainError as error:
        return Synchronized(run, name, "", error)


def _settings(folder: RunFolder, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of the trackers that are meant, by name."""
    config = read_yaml(folder.config)[0]
    try:
        tracking = TrackingSection.model_validate(config.get("tracking") or {})
    except ValidationError as error:
        first = error.errors()[0]
        raise RunFolderError(
            f"tracking.{'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=str(folder.config),
            fix="Use the version of mltrain that made the run.",
        ) from None
    if tracking.others:
        load_plugins(config.get("plugins") or [])
    settings = tracking.settings(*names)
    for name in names:
        TRACKERS.get(name)
        if name not in settings:
            raise ConfigError(f"no settings of {name!r}", where=str(folder.config), fix="Name another tracker.")
    return settings
