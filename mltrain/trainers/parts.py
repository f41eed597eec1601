"""What a trainer is made of, put together in the order in which the parts need one another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from accelerate import Accelerator

from mltrain.callbacks.base import Callback, Stop, overriding
from mltrain.checkpoints.snapshot import SnapshotBuffers
from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.schema import Config
from mltrain.core.run_folder import RunFolder
from mltrain.core.seeding import stream_key
from mltrain.data.plan import Position
from mltrain.models.gradient_checkpointing import gradient_checkpointing
from mltrain.tasks.base import Task
from mltrain.tasks.contract import check_model
from mltrain.tracking.recorder import Recorder
from mltrain.trainers.agreement import Agreement
from mltrain.trainers.buffer_guard import BufferGuard
from mltrain.trainers.compilation import Compilation
from mltrain.trainers.devices import reseeder, seed_everything, sender
from mltrain.trainers.ema import EMA, averaged_copy
from mltrain.trainers.finite import FiniteWatch
from mltrain.trainers.hooks import TrainerHooks
from mltrain.trainers.layouts import new_layout
from mltrain.trainers.loaders import Loaders
from mltrain.trainers.meter import Meter
from mltrain.trainers.nonfinite import NonFinitePolicy
from mltrain.trainers.optimizers import build_optimizer
from mltrain.trainers.processes import Processes
from mltrain.trainers.saving import Saving
from mltrain.trainers.schedules import Schedule
from mltrain.trainers.timing import Timing
from mltrain.trainers.weighing import Weighing

__all__ = ["TrainerParts"]


class TrainerParts(TrainerHooks):
    """The parts of a run; `Trainer` sets them in motion.

    Args:
        config: the checked configuration.
        task: what is learned.
        accelerator: what `make_accelerator` gave.
        folder: the run folder, locked by this process.
        recorder: where logged values go; None on all processes but the main one.
        callbacks: side effects, called in this order.
    """

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
        self.updating = False
        self.meter = Meter(task.metrics())
        self.grad_norm: torch.Tensor | None = None
        with ExitStack() as stack:
            self._set_up(stack)
            self.closing = stack.pop_all()

    def _set_up(self, stack: ExitStack) -> None:
        config, training = self.config, self.config.training
        self.device = self.accelerator.device
        self.processes = Processes(self.accelerator, training.collective_timeout_s)
        self.layout = new_layout(self.accelerator)
        self.autocast = self.layout.autocast
        self.is_main = self.processes.is_main
        self.reseed = reseeder(self.device, self.processes.rank)
        self._step_key = self.random_key("steps")
        self.to_device = sender(self.device)
        self.saving = Saving(self.checkpoints, self.processes, writers=self.layout.writers)
        self.buffers = SnapshotBuffers()
        self.nonfinite = NonFinitePolicy(training.on_nonfinite)
        self.finite = FiniteWatch(
            self.device,
            immediate=self.device.type == "cpu" or training.on_nonfinite != "stop",
            num_steps=config.tracking.log_every_n_steps,
        )

        self.window_size = training.batch_size * self.processes.count * training.gradient_accumulation_steps
        self.loaders = Loaders(config, self.task, self.processes, self.device)
        self.plan = self.make_plan(len(self.loaders.splits["train"]), self.window_size)
        self.microbatches = self.make_microbatches()
        self.steps_per_epoch = self.plan.windows_per_epoch

        # Initial weights of every rank come from the seed alone.
        seed_everything(stream_key(config.seed, "initial weights"))
        model = self.task.build_model()
        check_model(self.task, model)
        self.adaptations = self.adapt(model)
        stack.enter_context(gradient_checkpointing(model, wanted=training.gradient_checkpointing))
        average = averaged_copy(model) if training.ema.enabled else None
        self.plain_model = self.layout.place(model)
        optimizer = build_optimizer(config.optimizer, self.plain_model)
        self.schedule = Schedule(
            config.scheduler, optimizer, steps_per_epoch=self.steps_per_epoch, num_epochs=self.num_epochs
        )
        self.model, self.optimizer, self.update = self.prepare(self.plain_model, optimizer)
        self.agreement = Agreement(self.processes, self.layout.mark)
        self.ema = None if average is None else EMA(self.layout.place(average), self.plain_model, training.ema.decay)
        self.evaluated_model = self.plain_model if self.ema is None else self.ema.model
        self.compilation = stack.enter_context(Compilation(training.compile))
        self.compilation.compile(self.plain_model, self.evaluated_model)
        self.buffer_guard = BufferGuard(self.plain_model)

        self.weighing = Weighing(self.task, self.device, self.processes, self.timing)
        self._on_step_start = overriding(self.callbacks, "on_step_start")
        self._on_step_end = overriding(self.callbacks, "on_step_end")
