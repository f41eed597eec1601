"""What the processes of a run agree on while it goes on: whether a loss of the step was bad, and when to end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mltrain.callbacks.base import Stop
from mltrain.trainers.finite import FiniteWatch
from mltrain.trainers.processes import Processes
from mltrain.trainers.updates import Word

__all__ = ["Agreement", "add_mark"]

_MARK = "_word_to_all_processes"
_EARLY = 1


def add_mark(model: nn.Module, wrapped: Callable[[nn.Module], nn.Module]) -> tuple[nn.Module, nn.Parameter]:
    """Return a model wrapped in DDP, and a number that DDP exchanges with the gradients of the model.

    DDP takes note of the parameters once, when it wraps a model; the number is one of them for that long alone, so that
    neither the state nor the optimizer knows of it.

    Args:
        model: with one trained parameter at least.
        wrapped: wraps it.
    """
    like = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    mark = nn.Parameter(torch.zeros(1, dtype=like.dtype, device=like.device))
    model.register_parameter(_MARK, mark)
    try:
        return wrapped(model), mark
    finally:
        delattr(model, _MARK)


class Agreement:
    """What is agreed on among processes. With one process every method answers at once.

    In each step every process has to know, before it steps, of a bad loss or a wish to stop anywhere. A message of its
    own costs two processes of a small model two percent of a step on CPUs, so there the word that there is something
    travels in the gradient of a mark, which DDP exchanges with the others; what it is they ask only then. Reading a
    mark would hold a GPU up: there a message goes from host to host during the backward pass.

    Args:
        processes: of the run.
        mark: from `add_mark`; None: there is none.
    """

    def __init__(self, processes: Processes, mark: nn.Parameter | None = None) -> None:
        self._processes = processes
        self._mark = mark
        self._codes = [0, 0]
        self._answer: Callable[[], list[int]] | None = None
        self._stops = False

    def on_end(self, stop: Stop) -> str | None:
        """Return the end that any process wishes for; all learn why. Every process must call it.

        It is not `stop.status`, which a signal, or the end of `training.max_time`, may change on one process meanwhile.
        """
        if self._processes.count == 1:
            return stop.status
        (code,) = self._processes.largest([_encode(stop)])
        _take(code, stop)
        return None if code == 0 else "early_stopped" if code == _EARLY else "interrupted"

    def begin_step(self, finite: FiniteWatch, stop: Stop) -> Word | None:
        """Send word of a bad loss, and of the wish to stop, or return what is to go with the last backward pass.

        Every process must call it, and `settle_step` after the backward pass.
        """
        if self._processes.count == 1:
            return None
        self._codes = [_encode(stop), int(finite.bad)]
        if self._mark is None:
            self._answer = self._processes.begin_largest(self._codes)
            return None
        return self._mark, torch.full_like(self._mark, float(any(self._codes)))

    def settle_step(self, finite: FiniteWatch, stop: Stop) -> None:
        """Take in what all have sent word of, before the optimizer step."""
        if self._processes.count == 1:
            return
        code, bad = self._settled()
        finite.bad = bad > 0
        _take(code, stop)
        self._stops = code > 0

    def stops(self, stop: Stop) -> bool:
        """Return whether to stop after this step: the wish itself in one process, else what was agreed on in it."""
        return self._stops if self._processes.count > 1 else stop.status is not None

    def _settled(self) -> list[int]:
        """Return the largest codes of the step over all processes."""
        if self._answer is not None:
            return self._answer()
        mark = self._mark
        assert mark is not None
        assert mark.grad is not None
        there_is_word, mark.grad = bool(mark.grad), None
        return self._processes.largest(self._codes) if there_is_word else [0, 0]


def _encode(stop: Stop) -> int:
    if stop.status is None:
        return 0
    return _EARLY if stop.status == "early_stopped" else _EARLY + 1 + (stop.signal or 0)


def _take(code: int, stop: Stop) -> None:
    if code == _EARLY:
        stop.request("early_stopped", "another process asked for it")
    elif code > _EARLY:
        stop.request("interrupted", "another process was told to stop", signal=code - _EARLY - 1 or None)
