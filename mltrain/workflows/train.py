"""The main job: a configuration in, a trained and reviewed run folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from mltrain.config.load import LoadedConfig, check_config, load_config
from mltrain.core.errors import ConfigError
from mltrain.core.hardware import set_determinism
from mltrain.core.logging import LogContext, log
from mltrain.core.run_folder import RunFolder, create_run_folder, refuse_taken_name
from mltrain.tasks.base import TASKS, task_config_class
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.checks import check_training, plugin_callbacks
from mltrain.workflows.resume import ResumePoint, check_num_epochs, complete_summary, find_named, find_resume_point
from mltrain.workflows.run_name import run_name
from mltrain.workflows.session import Session

__all__ = ["TrainResult", "train"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        summary: what `summary.json` holds.
        folder: the run folder.
        signal: number of the signal that interrupted the run, or None.
    """

    summary: Mapping[str, Any]
    folder: Path
    signal: int | None


def train(
    config: str | Path | Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: str | Path | None = None,
) -> TrainResult:
    """Train as a configuration says, and leave a run folder.

    Args:
        config: a YAML file, or its content. May be left out when a run is resumed by path: its own is taken.
        overrides: "section.key" -> value; beats the configuration.
        resume: a run folder, one of its checkpoints, or "auto": the newest unfinished run of this name, if any.

    Raises:
        MltrainError: with what is wrong, where, and what to do; before any compute is spent where that can be known.
    """
    LogContext.set()
    point = find_resume_point(Path(resume)) if resume is not None and str(resume) != "auto" else None
    loaded = _load(config, overrides or {}, point)
    chosen = loaded.config
    if str(resume) == "auto":
        found = find_named(Path(chosen.run.dir), chosen.run.name or run_name(chosen, loaded.overrides), chosen)
        point = find_resume_point(found) if found is not None else None
    if point is not None:
        check_num_epochs(point, chosen)
        complete = complete_summary(point.folder.path, chosen)
        if complete is not None:
            log.info("%s is complete already: nothing to do. --num_epochs trains it longer.", point.folder.path)
            return TrainResult(complete, point.folder.path, None)
    elif chosen.run.name is not None:
        refuse_taken_name(Path(chosen.run.dir), chosen.run.name)

    trainer_class = TRAINERS.get(chosen.training.trainer_type)
    trainer_class.check(chosen)
    switches = chosen.reproducibility
    set_determinism(
        deterministic=switches.deterministic,
        benchmark=switches.benchmark,
        num_threads=switches.num_threads,
        tf32=switches.tf32,
    )
    task = TASKS.get(chosen.task)(chosen)
    check_training(chosen, task)
    callbacks = plugin_callbacks(chosen)

    accelerator = trainer_class.make_accelerator(chosen)
    folder = _folder(loaded, point, is_main=accelerator.is_main_process)
    session = Session(chosen, task, trainer_class, accelerator, folder, callbacks)
    summary = session.run(point)
    return TrainResult(summary, folder.path, session.signal)


def _load(
    config: str | Path | Mapping[str, Any] | None, overrides: Mapping[str, Any], point: ResumePoint | None
) -> LoadedConfig:
    if isinstance(config, Mapping):
        return check_config(config, overrides, task_config_class)
    if config is None:
        if point is None:
            raise ConfigError("no configuration", where="--config", fix="Name a YAML file, such as one of configs/.")
        config = point.folder.config
    return load_config(Path(config), overrides, task_config_class)


def _folder(loaded: LoadedConfig, point: ResumePoint | None, *, is_main: bool) -> RunFolder:
    """Return the run's folder: made or found by the main process, told to the others."""
    if point is not None:
        return point.folder
    config = loaded.config
    paths: list[str | None] = [None]
    if is_main:
        name = config.run.name or run_name(config, loaded.overrides)
        paths = [str(create_run_folder(Path(config.run.dir), name, numbered=config.run.name is None).path)]
    broadcast_object_list(paths)
    return RunFolder(Path(str(paths[0])))
