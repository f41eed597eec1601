"""One run from its open folder to its summary: log, metadata, trackers, training, evaluation, reports."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from mltrain.callbacks.base import Callback
from mltrain.callbacks.checkpointing import Checkpointing
from mltrain.callbacks.early_stopping import EarlyStopping
from mltrain.callbacks.epoch_table import EpochTable
from mltrain.callbacks.progress import Progress
from mltrain.callbacks.step_log import StepLog
from mltrain.callbacks.system_metrics import SystemMetrics
from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.schema import Config
from mltrain.core.logging import LogContext, close_log, log, open_file_log
from mltrain.core.run_folder import RunFolder
from mltrain.core.signal_handling import NOTHING_TO_SAVE
from mltrain.tasks.base import Task
from mltrain.tasks.package import save_model
from mltrain.tracking.base import TRACKERS, Tracker
from mltrain.tracking.metrics_log import MetricsLog, read_metrics
from mltrain.tracking.recorder import Recorder
from mltrain.trainers.base import Trainer
from mltrain.trainers.rank_board import RankBoard
from mltrain.trainers.run_state import load_weights, metrics_length
from mltrain.workflows.announcement import announce
from mltrain.workflows.checks import best_metric
from mltrain.workflows.curves import draw_curves
from mltrain.workflows.rank_facts import gather_rank_facts
from mltrain.workflows.resume import ResumePoint
from mltrain.workflows.samples import draw_samples
from mltrain.workflows.segments import begin_segment
from mltrain.workflows.signals import stop_on_signals
from mltrain.workflows.summary import run_summary, write_summary
from mltrain.workflows.time_limit import stop_after

__all__ = ["Session"]


class Session:
    """One segment of a run: from the start, or from a checkpoint, to its end or to an interruption.

    Args:
        config, task, trainer_class, accelerator: what is run, checked.
        folder: the run folder.
        callbacks: those of plugins.
        board: of the run's processes.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        trainer_class: type[Trainer],
        accelerator: Accelerator,
        folder: RunFolder,
        callbacks: Sequence[Callback],
        board: RankBoard,
    ) -> None:
        self._board = board
        self._config, self._task, self._folder = config, task, folder
        self._trainer_class, self._accelerator = trainer_class, accelerator
        self._non_private = trainer_class.non_private(config)
        self._is_main: bool = accelerator.is_main_process
        self._data = task.data_facts()
        self._ranks = gather_rank_facts(accelerator)
        self._checkpointing = Checkpointing(
            config.checkpointing,
            *best_metric(config, task),
            rolls_back=config.training.on_nonfinite == "rollback",
        )
        self._callbacks = [
            StepLog(config.tracking.log_every_n_steps),
            *([SystemMetrics(config.tracking.system_metrics)] if config.tracking.system_metrics.enabled else []),
            *([EarlyStopping(config.early_stopping)] if config.early_stopping.enabled else []),
            *callbacks,
            EpochTable(),
            self._checkpointing,
            Progress(),
        ]
        self.signal: int | None = None

    def run(self, point: ResumePoint | None, *, started: float, begin: Callable[[], None]) -> dict[str, Any]:
        """Train, evaluate, report; returns the summary. Whatever happens, the folder says how it ended.

        Args:
            point: where the run continues; None: it begins.
            started: when the command began, by `time.monotonic`.
            begin: is called when, from there on, log and summary say how an interruption ended the run.
        """
        max_time = self._config.training.max_time if self._is_main else None
        with contextlib.ExitStack() as stack:
            recorder = self._opened(stack, point)
            trainer = None
            summary: dict[str, Any] = {}
            begin()
            try:
                trainer = self._trainer_class(
                    self._config, self._task, self._accelerator, self._folder, recorder, self._callbacks
                )
                self._board.position = lambda made=trainer: made.position  # type: ignore[misc]
                stack.callback(trainer.loaders.close)
                stack.callback(trainer.close)
                stack.callback(trainer.closing.close)
                with stop_on_signals(trainer.stop), stop_after(max_time, trainer.stop, started=started):
                    summary = self._train_and_review(trainer, point)
                self.signal = trainer.stop.signal if summary["status"] == "interrupted" else None
            except KeyboardInterrupt as error:
                self._board.met(error)
                if trainer is None:
                    log.warning(NOTHING_TO_SAVE)
                reason = "a second signal" if trainer is not None else "a signal before training began"
                self._write_reports_after_failure(trainer)
                summary = self._summary(trainer, "interrupted", reason=reason)
                raise
            except BaseException as error:
                plain = self._board.met(error)
                log.debug("The run failed: %s", plain, exc_info=True)
                self._write_reports_after_failure(trainer)
                summary = self._summary(trainer, "failed", reason=f"{type(plain).__name__}: {plain}")
                raise plain from error
            finally:
                if recorder is not None:
                    if summary:  # a plugin may have broken what it is made of
                        write_summary(self._folder, summary)
                    self._close_trackers(recorder)
        return summary

    # ---- the run ---------------------------------------------------------------------------------------------------

    def _opened(self, stack: contextlib.ExitStack, point: ResumePoint | None) -> Recorder | None:
        """Open this process's log and, on the main one, the folder and its recorder, until the stack is unwound."""
        if self._is_main:
            stack.enter_context(self._folder.lock())
        log_name = "train.log" if self._is_main else f"rank_{self._accelerator.process_index}.log"
        stack.callback(close_log, open_file_log(self._folder.logs / log_name))
        if not self._is_main:
            return None
        self._begin(point)
        if point is not None and point.checkpoint is not None:
            # Before the metrics are cut back to it: what is newer would lack them.
            CheckpointStore(self._folder.checkpoints).set_aside_after(point.checkpoint)
        recorder = self._open_recorder(point)
        stack.callback(recorder.close)
        return recorder

    def _train_and_review(self, trainer: Trainer, point: ResumePoint | None) -> dict[str, Any]:
        if self._is_main:
            announce(trainer, self._ranks)
        if point is not None and point.checkpoint is not None:
            log.info("Continuing from %s.", point.checkpoint)
        trainer.fit(point.checkpoint if point is not None else None)
        if self._is_main:
            trainer.write_reports(self._folder.reports)
        # A signal after the last epoch may have reached one process only.
        ended, reason = trainer.agreement.on_end(trainer.stop) or "completed", trainer.stop.reason
        if ended == "interrupted":
            return self._interrupted(trainer)
        if ended == "early_stopped":
            log.info("Stopped early: %s.", reason)

        LogContext.set(phase="evaluate")
        best = self._checkpointing.best
        selection = self._config.checkpointing.selection or trainer.default_selection
        if selection == "best" and best is not None:
            log.info("Evaluating the best weights: epoch %d, %s %.4f.", best["epoch"], best["metric"], best["value"])
            load_weights(trainer, trainer.checkpoints.at(best["checkpoint"]))
        values: dict[str, dict[str, float]] = {}
        for split in trainer.loaders.splits:
            meter = trainer.evaluate(split)
            if meter is None:
                return self._interrupted(trainer)
            values[split] = meter.compute()
            if self._is_main:
                self._task.write_reports(split, meter.metrics, logs=self._folder.logs, reports=self._folder.reports)
        trainer.log({f"test/{name}": value for name, value in values.get("test", {}).items()})
        weights = trainer.layout.whole_state(trainer.evaluated_model)
        digest = self._pack(trainer, weights) if self._is_main else None
        summary = self._summary(trainer, ended, reason=reason, values=values, digest=digest)
        if self._is_main:
            draw_curves(
                read_metrics(self._folder.metrics), self._folder.reports / "curves.png", title=self._folder.name
            )
            draw_samples(self._config, self._task, self._folder.reports / "samples_train.png")
            self._conclude(summary)
        return summary

    def _pack(self, trainer: Trainer, weights: Mapping[str, torch.Tensor] | None) -> str:
        """Write the model's package and return its digest."""
        return save_model(
            self._folder.model,
            self._config.task,
            self._task,
            trainer.evaluated_model,
            weights,
            adapted=bool(trainer.adaptations),
        )

    def _interrupted(self, trainer: Trainer) -> dict[str, Any]:
        log.warning("Interrupted: %s. Continue with --resume %s.", trainer.stop.reason, self._folder.path)
        return self._summary(trainer, "interrupted", reason=trainer.stop.reason)

    def _conclude(self, summary: dict[str, Any]) -> None:
        for split in ("train", "val", "test"):
            if split in summary:
                log.info("%-5s %s", split, ", ".join(f"{name} {value:.4f}" for name, value in summary[split].items()))
        log.info("The run is in %s: summary.txt, logs, reports and model.", self._folder.path)

    # ---- what is written -------------------------------------------------------------------------------------------

    def _summary(
        self,
        trainer: Trainer | None,
        status: str,
        *,
        reason: str,
        values: dict[str, dict[str, float]] | None = None,
        digest: str | None = None,
    ) -> dict[str, Any]:
        return run_summary(
            self._config,
            self._folder,
            trainer,
            status,
            reason=reason,
            num_processes=self._accelerator.num_processes,
            best=self._checkpointing.best,
            values=values,
            digest=digest,
            non_private=self._non_private,
        )

    def _write_reports_after_failure(self, trainer: Trainer | None) -> None:
        """Let the trainer say what it has done; the failure itself matters more than one of its reports."""
        if trainer is None or not self._is_main:
            return
        try:
            trainer.write_reports(self._folder.reports)
        except Exception as error:
            log.warning("The trainer's reports could not be written (%s: %s).", type(error).__name__, error)

    def _begin(self, point: ResumePoint | None) -> None:
        training = self._config.training
        window_size = training.batch_size * self._accelerator.num_processes * training.gradient_accumulation_steps
        begin_segment(
            self._folder,
            self._config,
            point,
            ranks=self._ranks,
            data=self._data,
            initial_weights=self._task.initial_weights(),
            window_size=window_size,
            data_files=self._task.data_files(),
            fitted=self._task.fitted(),
        )
        write_summary(self._folder, self._summary(None, "running", reason=""))

    def _close_trackers(self, recorder: Recorder) -> None:
        try:
            for line in recorder.close_trackers():
                log.info("%s", line)
        except KeyboardInterrupt:
            log.warning("Not waiting for the trackers. mltrain sync %s sends what they missed.", self._folder.path)
            raise

    def _open_recorder(self, point: ResumePoint | None) -> Recorder:
        length = 0
        if point is not None and point.checkpoint is not None:
            length = metrics_length(point.checkpoint)
        metrics = MetricsLog(self._folder.metrics, length=length, non_private=self._non_private)
        recorder = Recorder(metrics, self._trackers())
        recorder.open()
        return recorder

    def _trackers(self) -> list[Tracker]:
        settings = self._config.tracking.settings()
        return [TRACKERS.get(name)(self._folder, values) for name, values in settings.items()]
