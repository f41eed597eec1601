"""Where a run continues, and whether it may: the same data, the same model, the same windows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mltrain.checkpoints.manifest import verify_manifest
from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.explain import shown
from mltrain.config.schema import Config
from mltrain.config.yaml_file import read_yaml
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder, open_run_folder
from mltrain.data.data_changes import data_changes
from mltrain.data.data_files import DataFile, read_data_files
from mltrain.trainers.registry import TRAINERS

__all__ = [
    "FREE_KEYS",
    "ResumePoint",
    "changed_data",
    "changes_since",
    "check_num_epochs",
    "check_task",
    "complete_summary",
    "find_named",
    "find_resume_point",
    "own_values",
]

# Keys whose values make up what is learned; a run that continues with others would be neither the old nor a new one.
_FIXED = (
    "task",
    "seed",
    "data",
    "model",
    "training.label_smoothing",
    "training.ema",
    "training.dp.noise_multiplier",
    "training.dp.max_grad_norm",
    "training.dp.target_delta",
    "training.dp.accountant",
    "training.dp.reproducible",
    "optimizer.name",
    "optimizer.momentum",
    "optimizer.layer_decay",
    "optimizer.decay_norms_and_biases",
    "optimizer.options",
    "checkpointing.monitor",
    "checkpointing.mode",
)
# Keys that a resumed run may change, or find changed, without another result.
FREE_KEYS = (
    "data.num_workers",
    "data.prefetch_factor",
    "data.pin_memory",
    "data.data_dir",
    "data.on_corrupt",
    "data.splits_dir",
    "data.dataset_name",
    "training.max_time",
    "training.collective_timeout_s",
    "training.gradient_checkpointing",
)
_CHOOSING = (
    "training.num_epochs",
    "training.dp.target_epsilon",
    "early_stopping",
    "callbacks",
    "checkpointing.selection",
)
_FINISHED = ("completed", "early_stopped")


@dataclass(frozen=True)
class ResumePoint:
    """Where a run continues.

    folder: of the run.
    checkpoint: to continue from; None: from the beginning, for want of one.
    has_begun: whether anything has come of the run. Where not, it may begin with another configuration or other data.
    kept: keys and values of the run's configuration that stay in its folder, though this segment has others.
    notice: what of this segment differs from the run, for people; or nothing.
    """

    folder: RunFolder
    checkpoint: Path | None
    has_begun: bool = True
    kept: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""


def find_resume_point(target: Path) -> ResumePoint:
    """Return where a run folder, or one checkpoint of it (or a pointer such as `best`), continues.

    Raises:
        CheckpointError: the named checkpoint is none, or damaged. (Of a run folder the newest sound one is taken.)
        RunFolderError: not a run, or it cannot be written into, or another process does.
    """
    if target.parent.name == "checkpoints":
        folder = _open(target.parent.parent)
        store = CheckpointStore(folder.checkpoints)
        checkpoint = store.pointed(target.name) or store.at(target.name)
        verify_manifest(checkpoint)
        return ResumePoint(folder, checkpoint)
    folder = _open(target)
    found = CheckpointStore(folder.checkpoints).newest_sound()
    if found is None:
        log.warning("%s has no sound checkpoint; the run starts from its beginning.", folder.path)
    written = (folder.metrics, folder.privacy_ledger, *folder.reports.glob("privacy.*"))
    has_begun = found is not None or any(path.is_file() and path.stat().st_size for path in written)
    return ResumePoint(folder, found, has_begun)


def _open(path: Path) -> RunFolder:
    folder = open_run_folder(path)
    # Tried out before time is spent on data. Of several processes the main one holds the lock soon.
    if os.environ.get("RANK", "0") == "0":
        folder.lock().release()
    return folder


def find_named(parent: Path, name: str, config: Config) -> Path | None:
    """Return the run that `--resume auto` means, of those called `name`, or `name_2` and so on.

    The newest that has not come to its end; else the newest finished one of this very configuration, which has
    nothing left to do. None: there is neither.
    """
    runs = [path for path in parent.iterdir() if _is_run_of(path, name)] if parent.is_dir() else []
    runs.sort(key=lambda path: (path / "config.yaml").stat().st_mtime_ns, reverse=True)
    unfinished = (path for path in runs if _status(path) not in _FINISHED)
    finished = (path for path in runs if _status(path) in _FINISHED and _is_of(path, config))
    return next(unfinished, None) or next(finished, None)


def complete_summary(run: Path, config: Config) -> dict[str, Any] | None:
    """Return the summary of a run that came to its end and has nothing left to do with this configuration; or None.

    To a run that is not trained on most keys mean nothing; those that choose its end, its weights or another run do.
    """
    if _status(run) not in _FINISHED:
        return None
    changed = _changed(run, config)
    if any(_under(key, (*_FIXED, *_CHOOSING)) and not _under(key, FREE_KEYS) for key in changed):
        return None
    if changed:
        log.info("What is set otherwise than for %s does nothing to a complete run: %s.", run.name, ", ".join(changed))
    summary: dict[str, Any] = read_json(run / "summary.json")
    return summary


def _is_of(run: Path, config: Config) -> bool:
    """Return whether a run was made with this very configuration, but for what its result does not depend on."""
    return all(_under(key, (*FREE_KEYS, "run", "tracking")) for key in _changed(run, config))


def _changed(run: Path, config: Config) -> list[str]:
    then, now = _flat(own_values(run, config)), _flat(config.model_dump())
    return sorted(key for key in {*then, *now} if then.get(key) != now.get(key))


def check_task(point: ResumePoint, config: Config) -> None:
    """Raise ConfigError where the run is of another task: nothing else that differs is worth telling then."""
    then = read_yaml(point.folder.config)[0].get("task")
    if then is not None and then != config.task:
        raise ConfigError(
            f"this run has task = {then}, now it is {config.task}",
            where=str(point.folder.path),
            fix="Continue with the run's own configuration, or start a new run.",
        )


def check_num_epochs(point: ResumePoint, config: Config) -> None:
    """Raise ConfigError where the run has been trained for longer than it is to be."""
    if point.checkpoint is None:
        return
    position = read_json(point.checkpoint / "state.json")["position"]
    trained, wanted = position["epoch"], config.training.num_epochs
    if trained + (position["window"] > 0) > wanted:
        raise ConfigError(
            f"is {wanted}, but the run has trained {trained} epochs{' and a part' * (position['window'] > 0)}",
            where="training.num_epochs",
            fix=f"Set it to {trained + (position['window'] > 0)} or more, or name an earlier checkpoint with --resume.",
        )


def changes_since(
    folder: RunFolder,
    config: Config,
    *,
    data: Mapping[str, Any],
    data_files: Iterable[DataFile],
    initial_weights: Mapping[str, str] | None,
    window_size: int,
) -> dict[str, Any]:
    """Return what differs from the run's own configuration, key -> [then, now].

    Args:
        folder: of the run.
        config, data, data_files, initial_weights, window_size: as they are here.

    Raises:
        ConfigError: something differs that must not.
    """
    then = _flat(own_values(folder.path, config))
    now = _flat(config.model_dump())
    changed = {key: [then.get(key), now.get(key)] for key in sorted({*then, *now}) if then.get(key) != now.get(key)}
    metadata = read_json(folder.metadata)
    refused = {key: pair for key, pair in changed.items() if _under(key, _FIXED) and not _under(key, FREE_KEYS)}
    refused |= _other_guarantee(changed.get("training.trainer_type"))
    if metadata["window_size"] != window_size:
        refused["batch_size x processes x gradient_accumulation_steps"] = [metadata["window_size"], window_size]
    weights_then = metadata.get("initial_weights")
    if weights_then is not None and weights_then["sha256"] != (initial_weights or {}).get("sha256"):
        refused["model.weights (sha256 of its files)"] = [
            weights_then["sha256"][:12],
            str((initial_weights or {}).get("sha256"))[:12],
        ]
    code_then, code_now = metadata["data"].get("code") or {}, data.get("code") or {}
    for what in sorted(key for key in code_then if code_then[key] != code_now.get(key)):
        log.warning("The %s shows itself otherwise than when the run began: what follows may not continue it.", what)
    problems = [
        f"{folder.path}: this run has {key} = {shown(was)}, now it is {shown(now_is)}. "
        "Continue with the old value, or start a new run."
        for key, (was, now_is) in refused.items()
    ]
    # Data that was asked for otherwise is other data.
    if not any(_under(key, ("data",)) for key in refused):
        problems += changed_data(folder, metadata, data, data_files)
    if problems:
        raise ConfigError(problems[0], problems=problems)
    return {key: pair for key, pair in changed.items() if not key.startswith("run.")}


def _other_guarantee(trainers: list[Any] | None) -> dict[str, list[Any]]:
    """Return the trainers then and now, where a run may not go from the one to the other."""
    if trainers is None or any(name not in TRAINERS.names() for name in trainers):
        return {}
    then, now = (TRAINERS.get(name).guarantee for name in trainers)
    return {} if then == now else {"training.trainer_type": trainers}


def changed_data(
    folder: RunFolder, metadata: Mapping[str, Any], data: Mapping[str, Any], data_files: Iterable[DataFile]
) -> list[str]:
    """Return a line that says in what the data is not that of the run; none where it is."""
    then = metadata.get("data") or {}
    if then.get("digest") == data.get("digest") and then.get("fitted") == data.get("fitted"):
        return []
    changes = data_changes(then, data, read_data_files(folder.data_files), data_files)
    return [
        f"{folder.path}: the data is not that of the run: {changes}. "
        "Put the old files and splits back, or start a new run."
    ]


def own_values(run: Path, config: Config) -> dict[str, Any]:
    """Return a run's configuration; keys that came into being since then have their defaults."""
    content = read_yaml(run / "config.yaml")[0]
    try:
        return type(config).model_validate(content).model_dump()
    except ValidationError:
        return content  # of another task, or of another version: what differs is told key by key


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _under(key: str, sections: tuple[str, ...]) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _is_run_of(path: Path, name: str) -> bool:
    numbered = path.name.startswith(f"{name}_") and path.name[len(name) + 1 :].isdigit()
    return (path.name == name or numbered) and (path / "config.yaml").is_file()


def _status(run: Path) -> str | None:
    try:
        return str(read_json(run / "summary.json").get("status"))
    except (OSError, ValueError):
        return None
