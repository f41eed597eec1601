"""What the processes of a run must agree on: when to stop, whether a loss was bad, and what their shares add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from mltrain.callbacks.base import Stop
from mltrain.core.errors import MltrainError
from mltrain.trainers.finite import FiniteWatch

__all__ = ["Processes"]

T = TypeVar("T")

_EARLY = 1


class Processes:
    """This process among those of the run. With one process every method answers at once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.rank: int = accelerator.process_index
        self.count: int = accelerator.num_processes
        self.is_main = self.rank == 0
        self._accelerator = accelerator
        self._agreed = False

    def agree(self, stop: Stop) -> bool:
        """Return whether any process wishes to stop; all learn why. Every process must call it."""
        if self.count > 1:
            self._take(self._maximum(_encode(stop)), stop)
        return stop.status is not None

    def agree_on_step(self, finite: FiniteWatch, stop: Stop) -> None:
        """Spread a bad loss, and the wish to stop, before the optimizer step. Every process must call it."""
        if self.count > 1:
            code, bad = self._maxima(_encode(stop), int(finite.bad))
            finite.bad = bad > 0
            self._take(code, stop)
            self._agreed = code > 0

    def agreed(self, stop: Stop) -> bool:
        """Return whether to stop after this step: the wish itself in one process, else what was agreed on in it."""
        return self._agreed if self.count > 1 else stop.status is not None

    def any(self, wish: bool) -> bool:
        """Return whether it is true of any process. Every process must call it."""
        return wish if self.count == 1 else self._maximum(int(wish)) > 0

    def gather(self, value: Any) -> list[Any]:
        """Return the plain values of all processes, in order of rank."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, value)
        return gathered

    def from_main(self, value: T) -> T:
        """Return the main process's plain value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def done_by_main(self, work: Callable[[], T]) -> T:
        """Let the main process do something; all get its result, a plain value, or its error."""
        result: T | MltrainError
        try:
            result = self.from_main(work() if self.is_main else None)  # type: ignore[assignment]
        except MltrainError as error:
            result = self.from_main(error)
        if isinstance(result, MltrainError):
            raise result
        return result

    def sum(self, value: float) -> float:
        """Return the sum of a value over all processes."""
        return value if self.count == 1 else float(sum(self.gather(value)))

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers: running statistics differ after the last window's forward."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def share_parameters(self, model: nn.Module) -> None:
        """Give every process the main one's weights and buffers."""
        if self.count > 1:
            for parameter in model.parameters():
                dist.broadcast(parameter.data, src=0)
            self.share_buffers(model)

    def wait(self) -> None:
        """Return when every process has come here."""
        self._accelerator.wait_for_everyone()

    def _maximum(self, code: int) -> int:
        return self._maxima(code)[0]

    def _maxima(self, *codes: int) -> list[int]:
        tensor = torch.tensor(codes, device=self._accelerator.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return [int(code) for code in tensor.tolist()]

    @staticmethod
    def _take(code: int, stop: Stop) -> None:
        if code == _EARLY:
            stop.request("early_stopped", "another process asked for it")
        elif code > _EARLY:
            stop.request("interrupted", "another process was told to stop", signal=code - _EARLY - 1 or None)


def _encode(stop: Stop) -> int:
    if stop.status is None:
        return 0
    return _EARLY if stop.status == "early_stopped" else _EARLY + 1 + (stop.signal or 0)
