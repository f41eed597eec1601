"""What is done about a window whose loss or gradient is not finite: `training.on_nonfinite`.

`skip` leaves weights, optimizer state and running statistics as they were before the window, and goes on with the next
one. `rollback` takes them back to the last checkpoint that was due by rule, and goes on with the next window: the
steps since that checkpoint are given up, as is usual after a loss that has blown up. Both happen at the same step
again when the run is resumed from before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mltrain.core.errors import MltrainError
from mltrain.core.logging import log
from mltrain.trainers.run_state import load_learned

if TYPE_CHECKING:
    from mltrain.trainers.base import Trainer

__all__ = ["NonFiniteLossError", "NonFinitePolicy", "late_error"]

_MOST_IN_A_ROW = 10
_SHOWN = 8
# So few samples are to blame themselves; of a whole microbatch the weights are.
_FEW = 2
_LOOK = "Look at these samples, or leave such steps out with training.on_nonfinite=skip. Saved checkpoints are sound."
_MEND = "Lower optimizer.lr, add warm-up or set training.max_grad_norm. Saved checkpoints are sound."


class NonFiniteLossError(MltrainError):
    """The loss or the gradient became NaN or infinite."""


class NonFinitePolicy:
    """Acts as configured, and gives up after ten windows in a row.

    Args:
        name: stop, skip or rollback.
    """

    def __init__(self, name: str) -> None:
        acts: dict[str, Callable[[Trainer], str]] = {"stop": lambda _: "", "skip": _skip, "rollback": _roll_back}
        self._act = acts[name]
        self._in_a_row = 0

    # An act says what was done; nothing: the run has to stop.

    def step_is_sound(self) -> None:
        """Take note of a step that was taken."""
        self._in_a_row = 0

    def state(self) -> int:
        """Return how many steps in a row were not sound."""
        return self._in_a_row

    def load(self, state: int) -> None:
        """Take back a state."""
        self._in_a_row = state

    def meet(self, trainer: Trainer) -> None:
        """Deal with the window at the trainer's position. Every process must call it.

        Raises:
            NonFiniteLossError: the run has to stop.
        """
        examples = [place for places in trainer.processes.gather(_bad_samples(trainer)) for place in places]
        found = _found(trainer, examples)
        self._in_a_row += 1
        if self._in_a_row >= _MOST_IN_A_ROW:
            raise NonFiniteLossError(f"{found}, as in the {_MOST_IN_A_ROW - 1} steps before it", fix=_MEND)
        done = self._act(trainer)
        if not done:
            raise NonFiniteLossError(found, fix=_LOOK if 0 < len(examples) <= _FEW else _MEND)
        log.warning("%s. %s", found[0].upper() + found[1:], done)


def late_error(trainer: Trainer, step: int) -> NonFiniteLossError:
    """Return the error for a step (from 0) whose loss was not finite and that is known only some steps later."""
    log.debug("The samples of the window: %s.", ", ".join(_window_samples(trainer, step)))
    return NonFiniteLossError(f"the loss is not finite in {_window_text(trainer, step)}", fix=_MEND)


def _skip(trainer: Trainer) -> str:
    trainer.update.clear()
    trainer.buffer_guard.put_back()
    return "The step is skipped: weights and optimizer stay as they are."


def _roll_back(trainer: Trainer) -> str:
    trainer.update.clear()
    trainer.settle_checkpoint(wait=True)
    anchor = trainer.checkpoints.anchor
    if anchor is None:
        return ""
    load_learned(trainer, trainer.checkpoints.at(anchor))
    return f"Weights and optimizer are taken back to {anchor}; training goes on with the next window."


def _found(trainer: Trainer, examples: Sequence[str]) -> str:
    """Say what is not finite, where, and on which samples."""
    step = trainer.position.step
    where = _window_text(trainer, step)
    if not examples:
        log.debug("The samples of the window: %s.", ", ".join(_window_samples(trainer, step)))
        return f"the gradient is not finite in {where}, though the losses are"
    more = f" and {len(examples) - _SHOWN} more" if len(examples) > _SHOWN else ""
    log.debug("The samples with a loss that is not finite: %s.", ", ".join(examples))
    return f"the loss is not finite in {where} on {', '.join(examples[:_SHOWN])}{more}"


def _window_text(trainer: Trainer, step: int) -> str:
    """Return which window an optimizer step (from 0) takes, in the numbers that people see."""
    epoch, window = divmod(step, trainer.steps_per_epoch)
    return f"step {step + 1} (epoch {epoch + 1}, window {window + 1})"


def _bad_samples(trainer: Trainer) -> list[str]:
    """Return the IDs of this rank's samples whose loss is not finite."""
    if not trainer.finite.examples:
        return []
    window = trainer.plan.window(trainer.position.epoch, trainer.position.window)
    microbatches = trainer.microbatches.cut().share(window).microbatches
    dataset = trainer.loaders.splits["train"]
    return [dataset.sample_id(int(microbatches[number][place])) for number, place in trainer.finite.examples]


def _window_samples(trainer: Trainer, step: int) -> list[str]:
    dataset = trainer.loaders.splits["train"]
    return [dataset.sample_id(int(index)) for index in trainer.plan.window(*divmod(step, trainer.steps_per_epoch))]
