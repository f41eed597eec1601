"""A run trained again from what its folder holds, and compared with it to the bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mltrain.config.load import load_config
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, DataError, RunFolderError
from mltrain.core.files import read_json
from mltrain.core.hardware import check_device, describe_hardware, process_count
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.tasks.base import TASKS, task_config_class
from mltrain.tracking.metrics_log import read_metrics
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.circumstances import circumstances_that_differ
from mltrain.workflows.list_runs import run_status
from mltrain.workflows.resume import FREE_KEYS, changed_data
from mltrain.workflows.run_comparison import Comparison, compare_runs
from mltrain.workflows.train import train

__all__ = ["RerunResult", "rerun"]

# What a run may change when it is resumed without another result.
_HARMLESS = (
    *FREE_KEYS,
    "checkpointing.every_n_epochs",
    "checkpointing.every_n_steps",
    "checkpointing.keep_last",
    "tracking.mlflow",
    "tracking.others",
    "tracking.system_metrics",
    "tracking.tensorboard",
    "tracking.wandb",
)


@dataclass(frozen=True)
class RerunResult:
    """How it went.

    Attributes:
        folder: the new run folder.
        comparison: None where the new run was interrupted.
        signal: number of the signal that interrupted it, or None.
    """

    folder: Path
    comparison: Comparison | None
    signal: int | None


def rerun(run: str | Path, run_name: str | None = None) -> RerunResult:
    """Train as a run's `config.yaml` says, in a new run folder beside it, and compare both.

    Relative paths in the configuration are taken from the working folder, as they were when the run was made.

    Args:
        run: the run folder.
        run_name: name of the new run; None: `<name>_rerun`, numbered.

    Raises:
        RunFolderError: it is no run, or is going on, or holds nothing that could be compared.
        ConfigError: the run was resumed with other settings, or with another number of processes.
        DataError: the data is not that of the run.
    """
    folder = RunFolder(Path(run).resolve())
    metadata, summary = _read(folder.metadata), _read(folder.summary) if folder.summary.is_file() else {}
    records = read_metrics(folder.metrics)
    _check_comparable(folder, metadata, summary, has_values=bool(records))
    config = load_config(folder.config, {}, task_config_class).config
    _check_repeatable(folder, config)
    _check_processes(folder, metadata, config)
    _announce(folder, metadata, config)
    _check_data(folder, metadata, config)

    result = train(folder.config, _overrides(folder, metadata, config, run_name))
    if result.status == "interrupted":
        return RerunResult(result.folder, None, result.signal)
    comparison = compare_runs(
        records,
        read_metrics(RunFolder(result.folder).metrics),
        digest_then=summary.get("model_digest"),
        digest_now=result.summary.get("model_digest"),
    )
    return RerunResult(result.folder, comparison, None)


def _check_repeatable(folder: RunFolder, config: Config) -> None:
    trainer_class = TRAINERS.get(config.training.trainer_type)
    if not trainer_class.repeats_exactly(config):
        raise RunFolderError(
            f"{trainer_class.name} draws what nobody can draw again, so that no two runs are alike; and a second run "
            "on the same data has its own epsilon, which adds to the first",
            where=str(folder.path),
            fix=f"Where that is meant, run mltrain train --config {os.path.relpath(folder.config)}.",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise RunFolderError("cannot be read", where=str(path), fix="Name a run folder that ml-train made.")
    return value


def _check_comparable(
    folder: RunFolder, metadata: Mapping[str, Any], summary: Mapping[str, Any], *, has_values: bool
) -> None:
    anew = f"Train anew with mltrain train --config {os.path.relpath(folder.config)}."
    if run_status(folder, summary) == "running":
        raise RunFolderError("this run is still going on", where=str(folder.path), fix="Wait for its end.")
    if not has_values:
        raise RunFolderError("this run has logged nothing to compare with", where=str(folder.path), fix=anew)
    changes = {
        key: pair
        for segment in metadata.get("segments", [])
        for key, pair in (segment.get("changes") or {}).items()
        if not any(key == name or key.startswith(f"{name}.") for name in _HARMLESS)
    }
    if changes:
        told = "; ".join(f"{key} from {then!r} to {now!r}" for key, (then, now) in changes.items())
        raise ConfigError(
            f"the run was resumed with other settings ({told}); its config.yaml is the last state, and no run made "
            "from it is comparable",
            where=str(folder.path),
            fix=anew,
        )


def _overrides(folder: RunFolder, metadata: Mapping[str, Any], config: Config, run_name: str | None) -> dict[str, Any]:
    """Return what the new run sets otherwise: where it lies, and what the machine decided in the old one."""
    parent = folder.path.parent
    overrides: dict[str, Any] = {
        "run.name": run_name or _free_name(parent, f"{folder.name}_rerun"),
        "run.tags": {**config.run.tags, "rerun_of": folder.name},
        "training.max_time": None,  # the run may have been made in several parts; this one cannot be
    }
    if Path(config.run.dir).expanduser().resolve() != parent:
        overrides["run.dir"] = os.path.relpath(parent)
    threads = _threads(metadata, config)
    if threads is not None:
        overrides["reproducibility.num_threads"] = threads
    return overrides


def _threads(metadata: Mapping[str, Any], config: Config) -> int | None:
    """Return the threads of a CPU operation: as stated, else as the run had them; they are part of the bits."""
    return config.reproducibility.num_threads or metadata["hardware"].get("threads")


def _free_name(parent: Path, name: str) -> str:
    candidate, number = name, 1
    while (parent / candidate).exists():
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _check_processes(folder: RunFolder, metadata: Mapping[str, Any], config: Config) -> None:
    training = config.training
    share = training.batch_size * training.gradient_accumulation_steps
    then, here = int(metadata["window_size"]) // share, process_count()
    if then != here:
        launcher = f"accelerate launch --num_processes {then} -m mltrain" if then > 1 else "mltrain"
        raise ConfigError(
            f"the run was made by {then} process(es), here there are {here}",
            where=str(folder.path),
            fix=f"Start it with {launcher} rerun {os.path.relpath(folder.path)}.",
        )


def _announce(folder: RunFolder, metadata: Mapping[str, Any], config: Config) -> None:
    """Say what differs from the circumstances of the run."""
    device = torch.device(check_device(config.training.device))
    hardware = describe_hardware(device)
    hardware |= {"threads": _threads(metadata, config) or hardware["threads"]}
    if device.type == "cuda" and device.index is None:
        hardware["device"] = "cuda:0"  # as Accelerate calls it
    differing = circumstances_that_differ(folder, metadata, config, hardware)
    made_in = _made_in(folder, config)
    if made_in is not None and made_in != Path.cwd().resolve():
        differing.append(f"the run was made in {made_in}; its relative paths are taken from here, {Path.cwd()}")
    for line in differing:
        log.warning("Differs: %s.", line)
    if not differing:
        log.info("Version, settings, packages and hardware are those of the run.")


def _made_in(folder: RunFolder, config: Config) -> Path | None:
    """Return the folder that the run was made in, as far as its `run.dir` tells: nothing else records it."""
    written = Path(config.run.dir).expanduser()
    parts = Path(os.path.normpath(written)).parts
    parent = folder.path.parent.parts
    if written.is_absolute() or ".." in parts or parent[-len(parts) :] != parts:
        return None
    return Path(*parent[: -len(parts)])


def _check_data(folder: RunFolder, metadata: Mapping[str, Any], config: Config) -> None:
    task = TASKS.get(config.task)(config)
    weights_then, weights_here = metadata.get("initial_weights"), task.initial_weights() or {}
    if weights_then is not None and weights_then["sha256"] != weights_here.get("sha256"):
        raise DataError(
            f"model.weights are not those of the run: their sha256 was {weights_then['sha256'][:12]}",
            where=str(folder.path),
            fix="Put the old weights back, or train a new run.",
        )
    if problems := changed_data(folder, metadata, task.data_facts(), task.data_files()):
        raise DataError(problems[0], problems=problems)
