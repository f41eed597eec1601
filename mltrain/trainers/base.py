"""THE loop. Every trainer shares it; a trainer overrides pieces of one step, never the loop.

A trainer may override: `check`, `make_accelerator`, `make_plan`, `prepare`, `step`, `extra_values`, `extra_state` and
`load_extra_state`. Everything else is the loop's.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn

from mltrain.callbacks.base import Callback, Stop, overriding
from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.schema import Config
from mltrain.core.logging import LogContext, log
from mltrain.core.run_folder import RunFolder
from mltrain.core.seeding import mix, stream_key
from mltrain.data.loader import Batch, Plan, TrainingStream, Window
from mltrain.data.plan import Position, ShuffledPlan
from mltrain.tasks.base import Task
from mltrain.tracking.recorder import Recorder
from mltrain.trainers.devices import new_accelerator, reseeder, seed_everything, sender
from mltrain.trainers.ema import EMA
from mltrain.trainers.evaluation import evaluate
from mltrain.trainers.finite import FiniteWatch
from mltrain.trainers.loaders import Loaders
from mltrain.trainers.meter import Meter
from mltrain.trainers.optimizers import build_optimizer
from mltrain.trainers.processes import Processes
from mltrain.trainers.run_state import load_state, save_state
from mltrain.trainers.schedules import Schedule
from mltrain.trainers.timing import Timing
from mltrain.trainers.updates import new_update

__all__ = ["Trainer"]

_AS_IS = nullcontext()


class Trainer:
    """One run: build it, call `fit`, then `evaluate`.

    Args:
        config: the checked configuration.
        task: what is learned.
        accelerator: what `make_accelerator` gave.
        folder: the run folder, locked by this process.
        recorder: where logged values go; None on all processes but the main one.
        callbacks: side effects, called in this order.
    """

    name: ClassVar[str]

    def __init__(
        self,
        config: Config,
        task: Task,
        accelerator: Accelerator,
        folder: RunFolder,
        recorder: Recorder | None,
        callbacks: Sequence[Callback],
    ) -> None:
        self.config, self.task, self.accelerator, self.folder = config, task, accelerator, folder
        self.recorder, self.callbacks = recorder, list(callbacks)
        self.checkpoints = CheckpointStore(folder.checkpoints)
        self.num_epochs = config.training.num_epochs
        self.position, self.stop, self.timing = Position(), Stop(), Timing()
        self._saved: Position | None = None
        self.samples_seen = 0
        self.meter = Meter(task.metrics())
        self.grad_norm: torch.Tensor | None = None
        self._set_up()

    # ---- what a trainer may override -------------------------------------------------------------------------------

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise HardwareError or ConfigError where this trainer cannot do what the configuration asks for."""

    @classmethod
    def make_accelerator(cls, config: Config) -> Accelerator:
        """Return the Accelerator: devices, processes and precision."""
        return new_accelerator(config.training.device, mixed_precision="no")

    def make_plan(self, num_samples: int, window_size: int) -> Plan:
        """Return which samples make up which window."""
        return ShuffledPlan(num_samples, window_size, self.config.seed)

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """Return the model and the optimizer, wrapped for the devices."""
        prepared_model, prepared_optimizer = self.accelerator.prepare(model, optimizer)
        return prepared_model, prepared_optimizer

    def step(self, window: Window) -> None:
        """Take one optimizer step: the gradient of the mean loss over the whole window, however it is cut."""
        self.reseed(mix(self._step_key, self.position.step))
        self.schedule.set(self.position.step)
        batches, total_weight = self._weigh(window)
        # DDP averages the gradients of its processes; their sum is wanted.
        scale = self.processes.count / total_weight
        for number in range(1, window.num_microbatches + 1):
            host_batch = self.timing.wait_for(batches)
            batch = self.to_device(host_batch)
            weights = self._weights(host_batch, filler=window.filler)
            # Gradients are exchanged on the last microbatch only.
            with _AS_IS if number == window.num_microbatches else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast() if self.mixed else _AS_IS:
                    losses = self.task.losses(self.model, batch)
                self.update.backward(losses.values, scale if weights is None else scale * weights)
            if not window.filler:
                self.meter.add(losses, batch, weights)
                self.finite.watch(losses.values)
        self.processes.agree_on_step(self.finite, self.stop)
        self.finite.check(self.position)
        self.grad_norm = self.update.apply(want_norm=self._logs_next)
        if self.ema is not None:
            self.ema.update()

    def extra_values(self) -> dict[str, float]:
        """Return further values for a log point."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Return further state for a checkpoint, as JSON values."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    # ---- the loop --------------------------------------------------------------------------------------------------

    def fit(self, resume_from: Path | None = None) -> None:
        """Train from the start, or from a verified checkpoint, to the end or until `stop` is set."""
        if resume_from is not None:
            load_state(self, resume_from)
            self._saved = self.position
        stream = self.loaders.training_stream(self.plan, self.position, self.num_epochs)
        try:
            self._emit("on_fit_start")
            while self.position.epoch < self.num_epochs and not self.processes.agree(self.stop):
                if not (self._train(stream) and self._validate()):
                    break
            if self._saved != self.position:
                log.info("The run is saved in %s.", self.save_checkpoint())
        finally:
            self._emit("on_fit_end")
            stream.close()

    def _train(self, stream: TrainingStream) -> bool:
        """Train the rest of the epoch; returns whether it came to its end."""
        started = time.perf_counter()
        LogContext.set(epoch=self.position.epoch, num_epochs=self.num_epochs, phase="train")
        self.timing.mark(self.samples_seen)
        seed_everything(mix(stream_key(self.config.seed, "epochs"), self.position.epoch))
        self._emit("on_epoch_start")
        self.model.train()
        stopped = False
        for window in stream.windows(self.steps_per_epoch - self.position.window):
            for on_step_start in self._on_step_start:
                on_step_start(self)
            self.step(window)
            self.position = self.position.after_step()
            self.samples_seen += window.num_examples
            for on_step_end in self._on_step_end:
                on_step_end(self)
            stopped = self.processes.agreed(self.stop)
            if stopped:
                break
        self.timing.train_s += time.perf_counter() - started
        return not stopped

    def _validate(self) -> bool:
        """Validate, and close the epoch; returns whether it came to its end."""
        epoch = self.position.epoch
        LogContext.set(epoch=epoch, num_epochs=self.num_epochs, phase="validate")
        self._emit("on_validation_start")
        values = {f"train/{name}": value for name, value in self._merged(self.meter).compute().items()}
        if "val" in self.loaders.splits:
            validation = self.evaluate("val")
            if validation is None:
                return False
            values |= {f"val/{name}": value for name, value in validation.compute().items()}
        self.log(values)
        self.schedule.epoch_end(values)
        self.meter = Meter(self.task.metrics())
        self.position = self.position.next_epoch()
        self._emit("on_epoch_end", epoch, values)
        return True

    def evaluate(self, split: str) -> Meter | None:
        """Return what a split adds up to over all ranks with the evaluated weights; None when the run is to stop."""
        self.processes.share_buffers(self.evaluated_model)
        own = evaluate(
            self.task,
            self.evaluated_model,
            self.loaders.evaluation(split),
            to_device=self.to_device,
            weights=self._weights,
            autocast=self.accelerator.autocast if self.mixed else nullcontext,
            interrupted=lambda: self.processes.agree(self.stop) and self.stop.status == "interrupted",
        )
        return None if own is None else self._merged(own)

    # ---- what callbacks may use ------------------------------------------------------------------------------------

    def log(self, values: Mapping[str, float]) -> None:
        """Log named values at the present step."""
        if self.recorder is not None:
            self.recorder.log(step=self.position.step, epoch=self.position.epoch, values=values)

    def step_values(self) -> dict[str, float]:
        """Return the values of the steps since the last call. Waits for the device; every process must call it."""
        self.finite.check(self.position, wait=True)
        losses, weights = zip(*self.processes.gather(self.meter.take_recent_loss()), strict=True)
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        values = {"train/step_loss": sum(losses) / sum(weights), "train/lr": rate}
        if self.grad_norm is not None:
            values["train/grad_norm"] = float(self.grad_norm)
        return values | self.timing.take_speed(self.samples_seen) | self.extra_values()

    def save_checkpoint(self) -> str:
        """Save the whole state of the run and return the checkpoint's name. Every process must call it."""
        self.finite.check(self.position, wait=True)
        self._saved = self.position
        name = save_state(self)
        self._emit("on_checkpoint", name)
        return name

    # ---- set-up ----------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        config, training = self.config, self.config.training
        self.device = self.accelerator.device
        self.mixed = self.accelerator.mixed_precision != "no"
        self.processes = Processes(self.accelerator)
        self.is_main = self.processes.rank == 0
        self.reseed = reseeder(self.device, self.processes.rank)
        self._step_key = stream_key(config.seed, "steps")
        self.to_device = sender(self.device)
        self.finite = FiniteWatch(self.device)

        self.window_size = training.batch_size * self.processes.count * training.gradient_accumulation_steps
        self.loaders = Loaders(config, self.task, self.processes, self.device)
        self.plan = self.make_plan(len(self.loaders.splits["train"]), self.window_size)
        self.steps_per_epoch = self.plan.windows_per_epoch

        # Initial weights of every rank come from the seed alone.
        seed_everything(stream_key(config.seed, "initial weights"))
        self.plain_model = self.task.build_model().to(self.device)
        optimizer = build_optimizer(config.optimizer, self.plain_model)
        self.schedule = Schedule(
            config.scheduler, optimizer, steps_per_epoch=self.steps_per_epoch, num_epochs=self.num_epochs
        )
        self.ema = EMA(self.plain_model, training.ema.decay) if training.ema.enabled else None
        self.evaluated_model = self.plain_model if self.ema is None else self.ema.model
        self.model, prepared = self.prepare(self.plain_model, optimizer)
        self.optimizer, self.update = new_update(self.accelerator, optimizer, prepared, training.max_grad_norm)

        self._weighted = type(self.task).example_weights is not Task.example_weights
        self._on_step_start = overriding(self.callbacks, "on_step_start")
        self._on_step_end = overriding(self.callbacks, "on_step_end")

    def _emit(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    # ---- pieces of a step ------------------------------------------------------------------------------------------

    @property
    def _logs_next(self) -> bool:
        return (self.position.step + 1) % self.config.tracking.log_every_n_steps == 0

    def _weights(self, host_batch: Batch, *, filler: bool) -> torch.Tensor | None:
        """Return the weight of each example on the device, or None where each counts once."""
        if filler:
            return torch.zeros(1, device=self.device)
        weights = self.task.example_weights(host_batch) if self._weighted else None
        return None if weights is None else weights.to(self.device, non_blocking=True)

    def _weigh(self, window: Window) -> tuple[Iterator[Batch], float]:
        """Return the window's batches and the sum of its examples' weights over all ranks."""
        if not self._weighted:
            return window.batches, window.num_examples
        batches = [self.timing.wait_for(window.batches) for _ in range(window.num_microbatches)]
        weights = [self._weights(batch, filler=window.filler) for batch in batches]
        return iter(batches), self.processes.sum(sum(float(w.sum()) for w in weights if w is not None))

    def _merged(self, meter: Meter) -> Meter:
        if self.processes.count == 1:
            return meter
        merged = Meter(self.task.metrics())
        for state in self.processes.gather(meter.state()):
            merged.merge(state)
        return merged
