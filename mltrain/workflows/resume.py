"""Where a run continues, and whether it may: the same data, the same model, the same windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mltrain.checkpoints.manifest import verify_manifest
from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder, open_run_folder

__all__ = ["ResumePoint", "changes_since", "find_resume_point", "find_unfinished"]

# Keys whose values make up what is learned; a run that continues with others would be neither the old nor a new one.
_FIXED = (
    "task",
    "seed",
    "data",
    "model",
    "training.label_smoothing",
    "training.ema",
    "optimizer.name",
    "optimizer.momentum",
    "optimizer.options",
    "checkpointing.monitor",
    "checkpointing.mode",
)
_FREE = ("data.num_workers", "data.data_dir", "data.splits_dir", "data.dataset_name")


@dataclass(frozen=True)
class ResumePoint:
    """A run folder and the checkpoint to continue from; None: from the beginning, for want of a checkpoint."""

    folder: RunFolder
    checkpoint: Path | None


def find_resume_point(target: Path) -> ResumePoint:
    """Return where a run folder, or one checkpoint of it, continues.

    Raises:
        CheckpointError: the named checkpoint is damaged. (In a run folder the newest sound one is taken instead.)
        RunFolderError: not a run.
    """
    if target.parent.name == "checkpoints":
        folder = open_run_folder(target.parent.parent)
        checkpoint = folder.checkpoints / target.name
        verify_manifest(checkpoint)
        return ResumePoint(folder, checkpoint)
    folder = open_run_folder(target)
    found = CheckpointStore(folder.checkpoints).newest_sound()
    if found is None:
        log.warning("%s has no sound checkpoint; the run starts from its beginning.", folder.path)
    return ResumePoint(folder, found)


def find_unfinished(parent: Path, name: str) -> Path | None:
    """Return the newest run folder called `name`, or `name_2` and so on, that has not come to its end."""
    if not parent.is_dir():
        return None
    runs = [
        path
        for path in parent.iterdir()
        if (path.name == name or _is_numbered(path.name, name)) and (path / "config.yaml").is_file()
    ]
    unfinished = [path for path in runs if _status(path) not in ("completed", "early_stopped")]
    return max(unfinished, key=lambda path: (path / "config.yaml").stat().st_mtime_ns, default=None)


def changes_since(folder: RunFolder, config: Config, *, data: Mapping[str, Any], window_size: int) -> dict[str, Any]:
    """Return what differs from the run's own configuration, key -> [then, now].

    Raises:
        ConfigError: something differs that must not.
    """
    then = _flat(yaml.safe_load(folder.config.read_text(encoding="utf-8")))
    now = _flat(config.model_dump())
    changed = {key: [then.get(key), now.get(key)] for key in sorted({*then, *now}) if then.get(key) != now.get(key)}
    metadata = read_json(folder.metadata)
    refused = {key: pair for key, pair in changed.items() if _under(key, _FIXED) and not _under(key, _FREE)}
    if metadata["window_size"] != window_size:
        refused["batch_size x processes x gradient_accumulation_steps"] = [metadata["window_size"], window_size]
    if metadata["data"].get("digest") != data.get("digest"):
        refused["data (digest of its files and splits)"] = [
            str(metadata["data"].get("digest"))[:12],
            str(data.get("digest"))[:12],
        ]
    if refused:
        problems = [
            f"{folder.path}: this run has {key} = {was!r}, now it is {now_is!r}. "
            "Continue with the old value, or start a new run."
            for key, (was, now_is) in refused.items()
        ]
        raise ConfigError(problems[0], problems=problems)
    return {key: pair for key, pair in changed.items() if not key.startswith("run.")}


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


def _is_numbered(name: str, stem: str) -> bool:
    return name.startswith(f"{stem}_") and name[len(stem) + 1 :].isdigit()


def _status(run: Path) -> str | None:
    try:
        return str(read_json(run / "summary.json").get("status"))
    except (OSError, ValueError):
        return None
