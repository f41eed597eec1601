"""One run in an MLflow store: opened for a run folder, fed with points, ended truthfully."""

from __future__ import annotations

import getpass
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from mltrain.core.masking import masked
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.metrics_log import NOT_VALUES
from mltrain.tracking.mlflow_address import run_ids, write_address
from mltrain.tracking.run_facts import DatasetFacts, RunFacts, read_privacy
from mltrain.tracking.sink import Sink

__all__ = ["TrackedRun", "entity_name", "open_run"]

# MLflow's own limits.
_MAX_PARAMS_OR_TAGS = 100
_MAX_NAME, _MAX_PARAM, _MAX_TAG, _MAX_DIGEST = 250, 6000, 8000, 36

_STATUSES = {"completed": "FINISHED", "early_stopped": "FINISHED", "interrupted": "KILLED"}


class TrackedRun(Sink):
    """A run that is open in the store.

    A resumed run goes through steps that were sent before it was killed. What the store holds of a metric when the
    run is opened is therefore not sent again: `points` leaves out the steps up to the last one there.

    Args:
        client: the store.
        run_id: the run.
        where: the store's URI, for people.
        last_steps: the last step that the store holds, for each metric.
    """

    def __init__(self, client: MlflowClient, run_id: str, where: str, last_steps: Mapping[str, int]) -> None:
        self.client, self.run_id = client, run_id
        self.name = f"MLflow run {run_id} in {where}"
        self._held, self._sent = dict(last_steps), dict(last_steps)
        self._epoch: int | None = None

    def points(self, record: Mapping[str, Any]) -> list[Metric]:
        """Return what is to be sent of one line of `metrics.jsonl`; the epoch is a metric where it changes."""
        step, timestamp = int(record["step"]), int(record["time"] * 1000)
        values = {name: value for name, value in record.items() if name not in NOT_VALUES}
        if record["epoch"] != self._epoch:
            self._epoch = values["epoch"] = record["epoch"]
        return [
            Metric(key, float(value), timestamp, step)
            for key, value in ((entity_name(name), value) for name, value in values.items())
            if isinstance(value, int | float) and step > self._held.get(key, -1)
        ]

    def send(self, points: Sequence[Metric]) -> None:
        """Write at most `max_points` points."""
        self.client.log_batch(self.run_id, metrics=points)
        for point in points:
            self._sent[point.key] = max(point.step, self._sent.get(point.key, -1))

    def start_over(self) -> None:
        """Expect the records from the first one again."""
        self._held, self._epoch = dict(self._sent), None

    def end(self, folder: RunFolder, status: str, *, ended_at: float) -> None:
        """Close the run and copy its documents, and its model, into the store; what is there already is replaced."""
        for name, text in {"mltrain.status": status, **read_privacy(folder)}.items():
            self.client.set_tag(self.run_id, name, text[:_MAX_TAG])
        self.client.set_terminated(self.run_id, _STATUSES.get(status, "FAILED"), end_time=int(ended_at * 1000))
        # A run that failed after it was resumed holds the model of its earlier end.
        folders = [folder.reports, folder.logs, *([folder.model] if status in _STATUSES else [])]
        for path in folders:
            if path.is_dir() and any(path.iterdir()):
                self.client.log_artifacts(self.run_id, str(path), artifact_path=path.name)
        for path in (folder.config, folder.metadata, folder.requirements, folder.summary, folder.summary_text):
            if path.is_file():
                self.client.log_artifact(self.run_id, str(path))


def open_run(client: MlflowClient, experiment_id: str, uri: str, folder: RunFolder, facts: RunFacts) -> TrackedRun:
    """Continue the MLflow run of this folder where the store has it, or else create it.

    Args:
        client: the store.
        experiment_id: where a new run is created.
        uri: the store's URI, kept in the run folder.
        folder: the run folder.
        facts: its parameters, tags and data.
    """
    run = _earlier_run(client, uri, folder)
    if run is None:
        # The files are written as the run starts; this process may get here much later.
        start = folder.metadata if folder.metadata.exists() else folder.config
        run = client.create_run(
            experiment_id,
            start_time=int(start.stat().st_mtime * 1000),
            run_name=facts.name,
            tags={"mlflow.user": _user()},
        )
    else:
        client.update_run(run.info.run_id, status="RUNNING")
    write_address(folder, uri=uri, experiment_id=run.info.experiment_id, run_id=run.info.run_id)
    _describe(client, run, facts)
    last_steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
    return TrackedRun(client, run.info.run_id, masked(uri), last_steps)


@lru_cache(maxsize=10_000)
def entity_name(name: str) -> str:
    """Return the nearest name that MLflow takes for a metric or a parameter."""
    segments = re.sub(r"[^/\w.\- :]", "_", name).split("/")
    return "/".join(segment for segment in segments if segment not in ("", ".", ".."))[:_MAX_NAME].rstrip("/") or "_"


def _earlier_run(client: MlflowClient, uri: str, folder: RunFolder) -> Run | None:
    for run_id in run_ids(folder, uri):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                continue
            raise
        if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
            return run
    return None


def _describe(client: MlflowClient, run: Run, facts: RunFacts) -> None:
    """Write parameters, tags and data. Parameters cannot change: what a resumed run sets otherwise becomes a tag.

    MLflow keeps no note beside a metric, so the run's description says which of them are not private.
    """
    wanted = {entity_name(name): text[:_MAX_PARAM] for name, text in facts.parameters.items()}
    held = run.data.params
    tags = _tags(facts)
    for name, text in wanted.items():
        resumed = f"resumed.{name}"
        if name in held and text != run.data.tags.get(resumed, held[name]):
            tags[resumed] = text
    if not facts.description and run.data.tags.get("mlflow.note.content"):
        tags.pop("mlflow.note.content", None)  # people may have written into it
    for name in run.data.tags:
        if name.startswith("privacy.") and name not in facts.privacy:
            client.delete_tag(run.info.run_id, name)  # the claim of an earlier end, which is too small by now
    params = [Param(name, text) for name, text in wanted.items() if name not in held]
    for chunk in _chunks(params):
        client.log_batch(run.info.run_id, params=chunk)
    for chunk in _chunks([RunTag(name[:_MAX_NAME], text[:_MAX_TAG]) for name, text in tags.items()]):
        client.log_batch(run.info.run_id, tags=chunk)
    if facts.dataset is not None and facts.dataset.digest is not None and not run.inputs.dataset_inputs:
        client.log_inputs(run.info.run_id, [_dataset_input(facts.dataset, facts.dataset.digest)])


def _tags(facts: RunFacts) -> dict[str, str]:
    standard = {
        "mlflow.note.content": "\n\n".join(filter(None, [facts.description, facts.notice])),
        "mlflow.source.git.commit": facts.commit,
        "mlflow.source.name": facts.command_line,
        "mlflow.source.type": "LOCAL",
    }
    return {
        **{f"mltrain.{name}": text for name, text in facts.circumstances.items()},
        **{name: text for name, text in standard.items() if text},
        "mltrain.status": "running",
        **facts.privacy,
        **facts.tags,
    }


def _dataset_input(dataset: DatasetFacts, digest: str) -> DatasetInput:
    source = json.dumps(
        {"uri": Path(dataset.source).as_uri() if Path(dataset.source).is_absolute() else dataset.source}
    )
    entity = Dataset(name=dataset.name, digest=digest[:_MAX_DIGEST], source_type="local", source=source)
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + _MAX_PARAMS_OR_TAGS] for start in range(0, len(items), _MAX_PARAMS_OR_TAGS))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"
