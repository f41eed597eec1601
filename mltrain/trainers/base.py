"""THE loop. Every trainer shares it; a trainer overrides pieces of one step, never the loop.

A trainer may override `step` and what stands in `hooks.py`. Everything else is the loop's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from mltrain.core.logging import LogContext, log
from mltrain.core.seeding import mix
from mltrain.data.batches import Batch
from mltrain.data.loader import TrainingStream, Window
from mltrain.tasks.base import Losses
from mltrain.tasks.contract import check_weights, losses_of
from mltrain.trainers.attempts import Attempts
from mltrain.trainers.devices import seed_everything
from mltrain.trainers.evaluation import evaluate, evaluate_in_memory
from mltrain.trainers.memory import return_free_memory
from mltrain.trainers.meter import Meter
from mltrain.trainers.nonfinite import late_error
from mltrain.trainers.parts import TrainerParts
from mltrain.trainers.run_state import load_state, take_snapshot

__all__ = ["Trainer"]

_AS_IS = nullcontext()


class Trainer(TrainerParts):
    """One run: build it, call `fit`, then `evaluate`."""

    def step(self, window: Window) -> None:
        """Take one optimizer step: the gradient of the mean loss over the whole window, however it is cut."""
        step = self.position.step
        self.reseed(mix(self._step_key, step))
        self.schedule.set(step)
        batches, total_weight = self.weighing.of_window(window)
        # DDP averages the gradients of its processes; their sum is wanted.
        scale = self.processes.count / total_weight
        for number in range(1, window.num_microbatches + 1):
            host_batch = self.timing.wait_for(batches)
            batch = self.to_device(host_batch)
            is_last, filler = number == window.num_microbatches, number > window.num_own
            weights = self.weighing.of_batch(host_batch, filler=filler)
            with _AS_IS if is_last else self.layout.more_to_come(self.model):
                with self.autocast():
                    losses = losses_of(self.task, self.model, batch)
                if not filler:
                    self._take_in(losses, batch, weights, microbatch=number - 1)
                word = self.agreement.begin_step(self.finite, self.stop) if is_last else None
                self.update.backward(losses.values, scale if weights is None else scale * weights, word)
        self.agreement.settle_step(self.finite, self.stop)
        self._update()

    # ---- the loop --------------------------------------------------------------------------------------------------

    def fit(self, resume_from: Path | None = None) -> None:
        """Train from the start, or from a verified checkpoint, to the end or until `stop` is set."""
        if resume_from is not None:
            load_state(self, resume_from)
            self._saved = self.position
        self.begin()
        self._attempts = Attempts(self)
        stream = self.loaders.training_stream(self.plan, self.microbatches.cut(), self.position, self.num_epochs)
        try:
            self._emit("on_fit_start")
            while self.position.epoch < self.num_epochs and not self.agreement.on_end(self.stop):
                if not (self._train(stream) and self._validate()):
                    break
            if self._saved != self.position:
                log.info("The run is saved in %s.", self.save_checkpoint())
            self.settle_checkpoint(wait=True)
            if values := self.extra_values():
                # Behind the checkpoint: a run that continues from it logs its own.
                self.log(values)
        finally:
            self._emit("on_fit_end")
            stream.close()
            self.saving.close()

    def _train(self, stream: TrainingStream) -> bool:
        """Train the rest of the epoch; returns whether it came to its end, with no wish to stop."""
        started = time.perf_counter()
        LogContext.set(epoch=self.position.epoch, num_epochs=self.num_epochs, phase="train")
        self.timing.mark(self.samples_seen)
        seed_everything(mix(self.random_key("epochs"), self.position.epoch))
        self._emit("on_epoch_start")
        self.model.train()
        stopped = False
        for window in stream.windows(min(self.steps_per_epoch - self.position.window, self.steps_allowed())):
            for on_step_start in self._on_step_start:
                on_step_start(self)
            self._attempts.take(window, stream)
            self.position = self.position.after_step()
            self.samples_seen += self.samples_of(window)
            for on_step_end in self._on_step_end:
                on_step_end(self)
            stopped = self.agreement.stops(self.stop)
            if stopped:
                break
        self.timing.train_s += time.perf_counter() - started
        if not stopped and self.position.window < self.steps_per_epoch:
            self.stop.request("early_stopped", self.limit_text())
        # Not by the wish to stop, which may have come on one process only since they agreed.
        return not stopped and self.position.window == self.steps_per_epoch

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
        self.log(values | self.extra_values())
        self.schedule.epoch_end(values)
        self.meter = Meter(self.task.metrics())
        self.position = self.position.next_epoch()
        return_free_memory()
        self._emit("on_epoch_end", epoch, values)
        return True

    def evaluate(self, split: str) -> Meter | None:
        """Return what a split adds up to over all ranks with the evaluated weights; None when the run is to stop."""
        self.processes.share_buffers(self.evaluated_model)
        own = evaluate_in_memory(
            self.loaders,
            split,
            lambda loader: evaluate(
                self.task,
                self.evaluated_model,
                loader,
                to_device=self.to_device,
                weights=self.weighing.of_batch,
                autocast=self.autocast,
                interrupted=lambda: self.agreement.on_end(self.stop) == "interrupted",
            ),
        )
        self.layout.forget_gathered(self.evaluated_model)
        return None if own is None else self._merged(own)

    # ---- what callbacks may use ------------------------------------------------------------------------------------

    def log(self, values: Mapping[str, float]) -> None:
        """Log named values at the present step."""
        if self.recorder is not None:
            self.recorder.log(step=self.position.step, epoch=self.position.epoch, values=values)

    def step_values(self) -> dict[str, float]:
        """Return the values of the steps since the last call. Waits for the device; every process must call it."""
        self._check_steps()
        self.settle_checkpoint(wait=False)
        losses, weights = zip(*self.processes.gather_numbers(self.meter.take_recent_loss()), strict=True)
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        mean = sum(losses) / sum(weights) if sum(weights) else math.nan  # all of them skipped
        values = {"train/step_loss": mean, "train/lr": rate}
        if self.grad_norm is not None:
            values["train/grad_norm"] = float(self.grad_norm)
        return values | self.timing.take_speed(self.samples_seen) | self.extra_values()

    def save_checkpoint(self) -> str:
        """Save the whole state of the run and return the checkpoint's name. Every process must call it.

        The state is copied; writing it goes on in the background, and `on_checkpoint` tells when it is done.
        """
        self._check_steps()
        self.settle_checkpoint(wait=True)
        self._saved = self.position
        name = self.checkpoints.next_name(self.position.step)
        meters = self.processes.gather(self.meter.state())
        self.saving.start(name, lambda: (take_snapshot(self, meters), self._flush_metrics))
        return name

    def settle_checkpoint(self, *, wait: bool) -> None:
        """Tell the callbacks if a checkpoint has been committed; raises CheckpointError if it could not be."""
        name = self.saving.settle(wait=wait)
        if name is not None:
            self._emit("on_checkpoint", name)

    def _emit(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    # ---- pieces of a step ------------------------------------------------------------------------------------------

    def _take_in(self, losses: Losses, batch: Batch, weights: torch.Tensor | None, *, microbatch: int) -> None:
        """Look at the losses of a microbatch, and count them in."""
        if weights is not None:
            check_weights(self.task, weights, losses)
        if self.finite.watch(losses.values, step=self.position.step, microbatch=microbatch):
            self.meter.leave_out(losses)
        else:
            self.meter.add(losses, batch, weights)

    def _update(self) -> None:
        """Take the optimizer step, unless the loss or the gradient forbids it."""
        self.updating = True
        immediate = self.finite.immediate
        self.grad_norm = None if self.finite.bad else self.update.finish(want_norm=immediate or self._logs_next)
        if self.finite.bad or (immediate and not self.update.is_sound(self.grad_norm)):
            self.nonfinite.meet(self)
        else:
            self.update.step()
            self.nonfinite.step_is_sound()
        if self.ema is not None:
            self.ema.update()

    def _check_steps(self) -> None:
        """Raise NonFiniteLossError for a step since the last call, where bad losses are not known at once."""
        if not self.finite.immediate:
            found = self.processes.gather(self.finite.first_bad_step(self.position.step))
            if steps := [step for step in found if step is not None]:
                raise late_error(self, min(steps))

    def _flush_metrics(self) -> None:
        if self.recorder is not None:
            self.recorder.flush()

    @property
    def _logs_next(self) -> bool:
        return (self.position.step + 1) % self.config.tracking.log_every_n_steps == 0

    def _merged(self, meter: Meter) -> Meter:
        if self.processes.count == 1:
            return meter
        merged = Meter(self.task.metrics())
        for state in self.processes.gather(meter.state()):
            merged.merge(state)
        return merged
