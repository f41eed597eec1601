"""What the processes of a run must agree on: when to stop, whether a loss was bad, and what their shares add up to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
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
    """This process among those of the run. With one process every method answers at once.

    What they agree on goes from host to host: through a GPU each word would wait for all that it has still to compute.

    Args:
        accelerator: of the run.
        timeout_s: how long one waits for another; None: as long as torch does by itself.
    """

    def __init__(self, accelerator: Accelerator, timeout_s: float | None = None) -> None:
        self.rank: int = accelerator.process_index
        self.count: int = accelerator.num_processes
        self.is_main = self.rank == 0
        self._accelerator = accelerator
        self._timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
        self._offer: tuple[torch.Tensor, dist.Work] | None = None
        self._agreed = False

    def agree(self, stop: Stop) -> str | None:
        """Return the end that any process wishes for; all learn why. Every process must call it.

        It is not `stop.status`, which a signal, or the end of `training.max_time`, may change on one process meanwhile.
        """
        if self.count == 1:
            return stop.status
        code = self._maximum(_encode(stop))
        self._take(code, stop)
        return None if code == 0 else "early_stopped" if code == _EARLY else "interrupted"

    def begin_agreement(self, finite: FiniteWatch, stop: Stop) -> None:
        """Send word of a bad loss, and of the wish to stop, while this process goes on. Every process must call it."""
        if self.count > 1:
            codes = torch.tensor([_encode(stop), int(finite.bad)])
            work = dist.all_reduce(codes, op=dist.ReduceOp.MAX, group=self._hosts, async_op=True)
            self._offer = codes, work

    def agree_on_step(self, finite: FiniteWatch, stop: Stop) -> None:
        """Take in what all have sent word of, before the optimizer step."""
        if self._offer is not None:
            codes, work = self._offer
            self._offer = None
            work.wait()
            code, bad = codes.tolist()
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
        dist.all_gather_object(gathered, value, group=self._hosts)
        return gathered

    def from_main(self, value: T) -> T:
        """Return the main process's plain value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._hosts)
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

    @cached_property
    def _hosts(self) -> dist.ProcessGroup | None:
        """The group in which hosts talk; None is torch's word for the one of all processes."""
        if self._accelerator.device.type == "cpu":
            return None
        group: dist.ProcessGroup = dist.new_group(backend="gloo", timeout=self._timeout)
        return group

    def _maximum(self, code: int) -> int:
        tensor = torch.tensor(code)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._hosts)
        return int(tensor)

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
