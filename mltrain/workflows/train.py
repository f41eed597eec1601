"""The main job: a configuration in, a trained and reviewed run folder out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from mltrain.config.load import LoadedConfig, name_place
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.files import read_json, read_record
from mltrain.core.hardware import process_count, set_determinism
from mltrain.core.logging import LogContext, console_log, kept_for_file, log
from mltrain.core.run_folder import RunFolder, create_run_folder, refuse_folder_early
from mltrain.tasks.base import TASKS, Task
from mltrain.trainers.base import Trainer
from mltrain.trainers.failures import in_words
from mltrain.trainers.rank_board import watched_ranks
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.checks import check_training, plugin_callbacks
from mltrain.workflows.elastic import keep_window
from mltrain.workflows.launch_state import note_run_folder
from mltrain.workflows.request import ConfigLike, Request, as_path, read_request
from mltrain.workflows.result import TrainResult
from mltrain.workflows.resume import (
    ResumePoint,
    check_num_epochs,
    check_task,
    complete_summary,
    find_named,
    find_resume_point,
)
from mltrain.workflows.run_name import run_name
from mltrain.workflows.session import Session
from mltrain.workflows.shared_folder import check_shared
from mltrain.workflows.signals import telling_before_training

__all__ = ["TrainResult", "execute", "train"]


def train(
    config: ConfigLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: str | PathLike[str] | None = None,
    verbose: bool = True,
) -> TrainResult:
    """Train as a configuration says, and leave a run folder.

    Args:
        config: a YAML file, or what it would hold. May be left out when a run is resumed by path: its own is taken.
        overrides: beats the configuration. Keys are dotted ("training.batch_size") or nested as the file is.
        resume: a run folder, one of its checkpoints, or "auto": the newest unfinished run of this name, if any.
        verbose: show the log on standard error while the run lasts. The run folder has it in any case.

    Raises:
        MltrainError: with what is wrong, where, and what to do; before any compute is spent where that can be known.
    """
    return execute(config, overrides, resume=resume, verbose=verbose)


def execute(
    config: ConfigLike | None,
    overrides: Mapping[str, Any] | None,
    *,
    resume: str | PathLike[str] | None,
    verbose: bool = True,
    by_hand: str = "overrides",
    started: float | None = None,
    complete: Callable[[Request], Request] = lambda request: request,
    make_task: Callable[[Config], Task] = lambda config: TASKS.get(config.task)(config),
) -> TrainResult:
    """Do what `train` does, for every way in.

    Args:
        config, overrides, resume, verbose: see `train`.
        by_hand: what the overrides are called in errors.
        started: when the command began, by `time.monotonic`; None: here.
        complete: adds to what was asked for.
        make_task: gives the task of the checked configuration.
    """
    started = time.monotonic() if started is None else started
    shown = console_log() if verbose else nullcontext()
    with shown, kept_for_file(), LogContext.of_a_run(), telling_before_training() as begin:
        auto = resume == "auto"
        target = None if resume is None or auto else as_path("resume", resume, 'a path, or "auto"')
        point = None if target is None else find_resume_point(target)
        if config is None:
            if point is None:
                raise ConfigError("no configuration", where="config", fix="Name a YAML file, such as one of configs/.")
            config = point.folder.config
        request = complete(read_request(config, overrides, by_hand=by_hand))
        try:
            with in_words():
                return _run(request.load(), point, auto=auto, make_task=make_task, started=started, begin=begin)
        except MltrainError as error:
            name_place(error, request.file, request.overrides, by_hand=by_hand)
            raise


def _run(
    loaded: LoadedConfig,
    point: ResumePoint | None,
    *,
    auto: bool,
    make_task: Callable[[Config], Task],
    started: float,
    begin: Callable[[], None],
) -> TrainResult:
    config = loaded.config
    if auto:
        found = find_named(
            Path(config.run.dir).expanduser(), config.run.name or run_name(config, loaded.overrides), config
        )
        point = find_resume_point(found) if found is not None else None
    if point is not None:
        if not auto:
            _refuse_another_place(point.folder, loaded)
        if point.has_begun:
            check_task(point, config)
        check_num_epochs(point, config)
        summary = complete_summary(point.folder.path, config)
        if summary is not None:
            longer = "--num_epochs trains it longer" if summary["status"] == "completed" else summary["reason"]
            log.info("%s is complete already: nothing to do (%s).", point.folder.path, longer)
            return TrainResult(summary, point.folder.path, None, lambda: make_task(config))
    else:
        refuse_folder_early(Path(config.run.dir).expanduser(), config.run.name, may_be_left=auto)

    trainer_class = TRAINERS.get(config.training.trainer_type)
    trainer_class.check(config)
    switches = config.reproducibility
    set_determinism(
        deterministic=switches.deterministic,
        benchmark=switches.benchmark,
        num_threads=switches.num_threads,
        tf32=switches.tf32,
    )
    task, config, point = _checked_task(loaded, point, make_task, trainer_class, auto=auto)
    callbacks = plugin_callbacks(config)

    accelerator = trainer_class.make_accelerator(config)
    with watched_ranks(accelerator) as board:
        folder = _folder(loaded, point, auto=auto, is_main=accelerator.is_main_process)
        board.folder = folder.path
        session = Session(config, task, trainer_class, accelerator, folder, callbacks, board)
        summary = session.run(point, started=started, begin=begin)
        # The main process writes the model; the others' results read it.
        accelerator.wait_for_everyone()
    return TrainResult(summary, folder.path, session.signal, lambda: task)


def _refuse_another_place(folder: RunFolder, loaded: LoadedConfig) -> None:
    """Raise ConfigError where a run that is continued was given another name or folder by hand."""
    run = loaded.config.run
    for key, differs, there in (
        ("run.name", run.name != folder.name, folder.name),
        ("run.dir", Path(run.dir).expanduser().resolve() != folder.path.parent, str(folder.path.parent)),
    ):
        if key in loaded.overrides and differs:
            raise ConfigError(
                f"a run continues in its own place ({there})", where=key, fix="Leave it out, or start a new run."
            )


def _checked_task(
    loaded: LoadedConfig,
    point: ResumePoint | None,
    make_task: Callable[[Config], Task],
    trainer_class: type[Trainer],
    *,
    auto: bool,
) -> tuple[Task, Config, ResumePoint | None]:
    """Return the task, its data read and checked, which may take long; and what it is trained with, and from where."""
    config = loaded.config
    task = make_task(config)
    if point is not None and point.has_begun:
        task.take_fitted(read_record(point.folder.fitted))
        if point.checkpoint is not None:
            task.continue_from_checkpoint(read_json(point.folder.metadata).get("initial_weights"))
        config, point = keep_window(loaded, point, auto=auto, group_size=task.group_size, processes=process_count())
    check_training(config, task)
    trainer_class.check_task(config, task, point.folder if point is not None else None)
    return task, config, point


def _folder(loaded: LoadedConfig, point: ResumePoint | None, *, auto: bool, is_main: bool) -> RunFolder:
    """Return the run's folder: made or found by the main process, told to the others."""
    folder = point.folder if point is not None else _new_folder(loaded, auto=auto, is_main=is_main)
    check_shared(folder.path, is_main=is_main, is_new=point is None)
    note_run_folder(folder.path)
    return folder


def _new_folder(loaded: LoadedConfig, *, auto: bool, is_main: bool) -> RunFolder:
    config = loaded.config
    paths: list[str | None] = [None]
    if is_main:
        name = config.run.name or run_name(config, loaded.overrides)
        parent, numbered = Path(config.run.dir).expanduser(), config.run.name is None
        paths = [str(create_run_folder(parent, name, numbered=numbered, may_be_left=auto).path)]
    broadcast_object_list(paths)
    return RunFolder(Path(str(paths[0])))
