"""Steps within the memory that there is: a window that does not fit is cut into smaller microbatches."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import numpy as np

from mltrain.core.errors import HardwareError
from mltrain.core.logging import log
from mltrain.data.batches import Batch
from mltrain.data.loader import TrainingStream, Window
from mltrain.trainers.memory import fits_memory

if TYPE_CHECKING:
    from mltrain.trainers.base import Trainer

__all__ = ["Attempts"]

# The optimizer makes its state in the first step: only the second shows what is needed.
_REHEARSALS = 2


class Attempts:
    """Takes each step, again in smaller microbatches where memory does not suffice, and keeps the size that did.

    Processes that exchange gradients cannot give up a step once they have begun the exchange: the others would wait for
    ever. So each of them first tries a microbatch of its own, without exchange, in the first steps of a segment, and
    all agree on what fits.

    Args:
        trainer: whose `step` is called.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        # Where a forward pass alone exchanges weights, nothing can be tried without the others.
        can_rehearse = trainer.processes.count > 1 and not trainer.layout.exchanges_weights
        self._rehearsals = _REHEARSALS if can_rehearse else 0

    def take(self, window: Window, stream: TrainingStream) -> None:
        """Take the step of a window, which is the latest of the stream."""
        trainer = self._trainer
        trainer.buffer_guard.keep()
        trainer.meter.begin_window(again=False)
        if self._rehearsals > 0:
            self._rehearsals -= 1
            window = self._rehearsed(window, stream)
        while True:
            trainer.finite.begin_step()
            trainer.updating = False
            if fits_memory(lambda tried=window: trainer.step(tried)):  # type: ignore[misc]
                return
            if trainer.updating:
                raise self._in_update()
            if trainer.processes.count > 1:
                raise self._too_late()
            window = self._cut_smaller(stream)

    def _rehearsed(self, window: Window, stream: TrainingStream) -> Window:
        """Return the window, cut so that a microbatch fits each process."""
        while True:
            batches = list(window.batches)
            # A model may draw from these; the step itself is to find them as if nothing had been tried.
            generators = random.getstate(), np.random.get_state()
            fits = not batches or fits_memory(lambda tried=batches[0]: self._rehearse(tried))  # type: ignore[misc]
            random.setstate(generators[0])
            np.random.set_state(generators[1])
            if not self._trainer.processes.any(not fits):
                self._forget()
                return dataclasses.replace(window, batches=iter(batches))
            window = self._cut_smaller(stream)

    def _rehearse(self, host_batch: Batch) -> None:
        trainer = self._trainer
        # The model itself, not its wrapper: nothing is exchanged.
        trainer.model.train()
        with trainer.autocast(), trainer.compilation.paused():
            losses = trainer.task.losses(trainer.plain_model, trainer.to_device(host_batch))
        trainer.update.backward(losses.values, 0.0)

    def _cut_smaller(self, stream: TrainingStream) -> Window:
        """Forget the attempt and return the same window in smaller microbatches."""
        trainer, sizes = self._trainer, self._trainer.microbatches
        self._forget()
        trainer.meter.begin_window(again=True)
        before = sizes.size
        if not sizes.make_smaller():
            raise HardwareError(
                f"out of memory, even with microbatches of {before}",
                where="training.batch_size",
                fix="Use a smaller model or smaller inputs, or a machine with more memory.",
            )
        log.warning(
            "Out of memory with microbatches of %d: going on with %d. The gradient of a window stays the same.",
            before, sizes.size,
        )  # fmt: skip
        stream.restart(trainer.position, sizes.cut())
        return stream.next_window()

    def _forget(self) -> None:
        self._trainer.update.clear()
        self._trainer.buffer_guard.put_back()

    def _in_update(self) -> HardwareError:
        return HardwareError(
            f"out of memory in step {self._trainer.position.step + 1}, in the optimizer, which keeps its own state",
            where="optimizer.name",
            fix="Use one with less state (sgd), a smaller model or a machine with more memory.",
        )

    def _too_late(self) -> HardwareError:
        return HardwareError(
            f"process {self._trainer.processes.rank} has run out of memory in step {self._trainer.position.step + 1}, "
            "in the middle of an exchange with the others",
            where="training.batch_size",
            fix="Halve it, double training.gradient_accumulation_steps, and continue with --resume.",
        )
