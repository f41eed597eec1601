"""One run from its open folder to its summary: log, metadata, trackers, training, evaluation, reports."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from accelerate import Accelerator

from mltrain.callbacks.base import Callback
from mltrain.callbacks.checkpointing import Checkpointing
from mltrain.callbacks.early_stopping import EarlyStopping
from mltrain.callbacks.epoch_table import EpochTable
from mltrain.callbacks.progress import Progress
from mltrain.callbacks.step_log import StepLog
from mltrain.config.schema import Config
from mltrain.config.yaml_file import dump_yaml
from mltrain.core.digest import model_digest
from mltrain.core.files import read_json, write_json, write_text
from mltrain.core.hardware import describe_hardware
from mltrain.core.logging import LogContext, close_log, log, open_file_log
from mltrain.core.run_folder import RunFolder
from mltrain.core.version import __version__
from mltrain.tasks.base import Task
from mltrain.tasks.package import save_model
from mltrain.tracking.base import TRACKERS, Tracker
from mltrain.tracking.metrics_log import MetricsLog, read_metrics
from mltrain.tracking.recorder import Recorder
from mltrain.trainers.base import Trainer
from mltrain.trainers.failures import explained
from mltrain.trainers.run_state import load_weights, metrics_length
from mltrain.workflows.checks import best_metric
from mltrain.workflows.curves import draw_curves
from mltrain.workflows.metadata import installed_packages, now, run_metadata
from mltrain.workflows.resume import ResumePoint, changes_since
from mltrain.workflows.signals import stop_on_signals
from mltrain.workflows.summary import write_summary

__all__ = ["Session"]


class Session:
    """One segment of a run: from the start, or from a checkpoint, to its end or to an interruption.

    Args:
        config, task, trainer_class, accelerator: what is run, checked.
        folder: the run folder.
        callbacks: those of plugins.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        trainer_class: type[Trainer],
        accelerator: Accelerator,
        folder: RunFolder,
        callbacks: Sequence[Callback],
    ) -> None:
        self._config, self._task, self._folder = config, task, folder
        self._trainer_class, self._accelerator = trainer_class, accelerator
        self._is_main: bool = accelerator.is_main_process
        self._data = task.data_facts()
        self._checkpointing = Checkpointing(config.checkpointing, *best_metric(config, task))
        self._callbacks = [
            StepLog(config.tracking.log_every_n_steps),
            *([EarlyStopping(config.early_stopping)] if config.early_stopping.enabled else []),
            *callbacks,
            EpochTable(),
            self._checkpointing,
            Progress(),
        ]
        self.signal: int | None = None

    def run(self, point: ResumePoint | None) -> dict[str, Any]:
        """Train, evaluate, report; returns the summary. Whatever happens, the folder says how it ended."""
        with contextlib.ExitStack() as stack:
            recorder = None
            if self._is_main:
                stack.enter_context(self._folder.lock())
                stack.callback(close_log, open_file_log(self._folder.logs / "train.log"))
                self._write_facts(point)
                recorder = self._open_recorder(point)
                stack.callback(recorder.close)
            trainer = None
            summary: dict[str, Any] = {}
            try:
                trainer = self._trainer_class(
                    self._config, self._task, self._accelerator, self._folder, recorder, self._callbacks
                )
                stack.callback(trainer.loaders.close)
                with stop_on_signals(trainer.stop):
                    summary = self._train_and_review(trainer, point)
                self.signal = trainer.stop.signal
            except BaseException as error:
                log.debug("The run failed.", exc_info=True)
                plain = explained(error) or error
                summary = self._summary(trainer, "failed", reason=f"{type(plain).__name__}: {plain}")
                raise plain from error
            finally:
                if recorder is not None:
                    write_summary(self._folder, summary)
                    for line in recorder.close_trackers():
                        log.info("%s", line)
        return summary

    # ---- the run ---------------------------------------------------------------------------------------------------

    def _train_and_review(self, trainer: Trainer, point: ResumePoint | None) -> dict[str, Any]:
        self._announce(trainer)
        if point is not None and point.checkpoint is not None:
            log.info("Continuing from %s.", point.checkpoint)
            if self._is_main:
                trainer.checkpoints.set_aside_after(point.checkpoint)
        trainer.fit(point.checkpoint if point is not None else None)
        if trainer.stop.status == "interrupted":
            log.warning("Interrupted: %s. Continue with --resume %s.", trainer.stop.reason, self._folder.path)
            return self._summary(trainer, "interrupted", reason=trainer.stop.reason)
        if trainer.stop.status is not None:
            log.info("Stopped early: %s.", trainer.stop.reason)

        LogContext.set(phase="evaluate")
        best = self._checkpointing.best
        if self._config.checkpointing.selection == "best" and best is not None:
            log.info("Evaluating the best weights: epoch %d, %s %.4f.", best["epoch"], best["metric"], best["value"])
            load_weights(trainer, self._folder.checkpoints / best["checkpoint"])
        values: dict[str, dict[str, float]] = {}
        for split in trainer.loaders.splits:
            meter = trainer.evaluate(split)
            if meter is None:
                return self._summary(trainer, "interrupted", reason=trainer.stop.reason)
            values[split] = meter.compute()
            if self._is_main:
                self._task.write_reports(split, meter.metrics, logs=self._folder.logs, reports=self._folder.reports)
        trainer.log({f"test/{name}": value for name, value in values.get("test", {}).items()})
        summary = self._summary(trainer, trainer.stop.status or "completed", reason=trainer.stop.reason, values=values)
        if self._is_main:
            save_model(self._folder.model, self._config.task, self._task, trainer.evaluated_model)
            draw_curves(
                read_metrics(self._folder.metrics), self._folder.reports / "curves.png", title=self._folder.name
            )
            self._conclude(summary)
        return summary

    def _announce(self, trainer: Trainer) -> None:
        if not self._is_main:
            return
        sizes = ", ".join(f"{split} {len(dataset)}" for split, dataset in trainer.loaders.splits.items())
        weights = sum(parameter.numel() for parameter in trainer.plain_model.parameters())
        switches = self._config.reproducibility
        count, device = trainer.processes.count, trainer.device
        log.info("Run %s, trainer %s on %s, %d process(es).", self._folder.name, trainer.name, device, count)
        log.info("Samples: %s. Model: %s with %s parameters.", sizes, self._config.model.architecture, f"{weights:,}")
        log.info(
            "%d steps an epoch of up to %d samples; %d loader worker(s).",
            trainer.steps_per_epoch, trainer.window_size, trainer.loaders.settings.num_workers,
        )  # fmt: skip
        if not switches.deterministic:
            log.warning(
                "Not deterministic: a second run will not give the same bits (reproducibility.deterministic: false%s).",
                ", benchmark: true" if switches.benchmark else "",
            )

    def _conclude(self, summary: dict[str, Any]) -> None:
        for split in ("train", "val", "test"):
            if split in summary:
                log.info("%-5s %s", split, ", ".join(f"{name} {value:.4f}" for name, value in summary[split].items()))
        log.info("The run is in %s: summary.txt, logs, reports and model.", self._folder.path)

    # ---- what is written -------------------------------------------------------------------------------------------

    def _summary(
        self, trainer: Trainer | None, status: str, *, reason: str, values: dict[str, dict[str, float]] | None = None
    ) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "status": status,
            "reason": reason,
            "run_name": self._folder.name,
            "trainer": self._config.training.trainer_type,
            "task": self._config.task,
            "num_processes": self._accelerator.num_processes,
            "mltrain": __version__,
            "finished": now(),
            "best": self._checkpointing.best,
            "epochs": 0,
            "steps": 0,
            "samples_seen": 0,
            **(values or {}),
            "model_digest": None,
            "timing": {"total_s": 0.0, "train_s": 0.0, "samples_per_s": 0.0, "data_wait_s": 0.0},
        }
        if trainer is not None:
            summary |= {
                "epochs": trainer.position.epoch,
                "steps": trainer.position.step,
                "samples_seen": trainer.samples_seen,
                "timing": trainer.timing.summary(trainer.samples_seen),
            }
            if values is not None:
                summary["model_digest"] = model_digest(trainer.evaluated_model.state_dict())
        return summary

    def _write_facts(self, point: ResumePoint | None) -> None:
        """Write what the run is made with; a resumed run adds a segment to it."""
        training = self._config.training
        window_size = training.batch_size * self._accelerator.num_processes * training.gradient_accumulation_steps
        facts = run_metadata(hardware=describe_hardware(self._accelerator.device), data=self._data)
        segment = {name: facts[name] for name in ("created", "command_line", "git", "hardware")}
        metadata = {**facts, "window_size": window_size, "segments": [segment]}
        if point is not None:
            changes = changes_since(self._folder, self._config, data=self._data, window_size=window_size)
            for key, (then, now_is) in changes.items():
                log.info("Changed since the run began: %s from %r to %r.", key, then, now_is)
            metadata = read_json(self._folder.metadata)
            start = point.checkpoint.name if point.checkpoint is not None else None
            metadata["segments"].append({**segment, "resumed_from": start, "changes": changes})
        write_json(self._folder.metadata, metadata)
        write_text(self._folder.config, dump_yaml(self._config.model_dump()))
        packages = "".join(f"{name}=={version}\n" for name, version in installed_packages().items())
        write_text(self._folder.requirements, packages)

    def _open_recorder(self, point: ResumePoint | None) -> Recorder:
        length = 0
        if point is not None and point.checkpoint is not None:
            length = metrics_length(point.checkpoint)
        recorder = Recorder(MetricsLog(self._folder.metrics, length=length), self._trackers())
        recorder.open()
        return recorder

    def _trackers(self) -> list[Tracker]:
        tracking = self._config.tracking
        settings = {name: dict(values) for name, values in tracking.others.items()}
        if tracking.mlflow.enabled:
            settings["mlflow"] = tracking.mlflow.model_dump()
            settings["mlflow"]["experiment"] = tracking.mlflow.experiment or self._config.data.name
        return [TRACKERS.get(name)(self._folder, values) for name, values in settings.items()]
