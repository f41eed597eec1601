"""What the processes of a run tell each other: plain values, numbers, buffers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from mltrain.core.errors import MltrainError

__all__ = ["Processes"]

T = TypeVar("T")


class Processes:
    """This process among those of the run. With one process every method answers at once.

    Words go from host to host: through a GPU each would wait for all that it has still to compute.

    Args:
        accelerator: of the run.
        timeout_s: how long one waits for another.
    """

    def __init__(self, accelerator: Accelerator, timeout_s: float) -> None:
        self.rank: int = accelerator.process_index
        self.count: int = accelerator.num_processes
        self.is_main = self.rank == 0
        self._accelerator = accelerator
        self._timeout = timedelta(seconds=timeout_s)

    def any(self, wish: bool) -> bool:
        """Return whether it is true of any process. Every process must call it."""
        return wish if self.count == 1 else self.largest([int(wish)]) == [1]

    def largest(self, values: Sequence[int]) -> list[int]:
        """Return the largest of each value over the processes. Every process must call it."""
        return self.begin_largest(values)()

    def begin_largest(self, values: Sequence[int]) -> Callable[[], list[int]]:
        """Send values, and return what waits for the largest of each. Every process must call both."""
        tensor = torch.tensor(values)
        work = dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._hosts, async_op=True)

        def largest() -> list[int]:
            work.wait()
            values: list[int] = tensor.tolist()
            return values

        return largest

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

    def gather_numbers(self, numbers: Sequence[float]) -> list[list[float]]:
        """Return the numbers of all processes, in order of rank; every process gives as many as the others.

        One small message, where `gather` takes two and pickles: for what is told in the midst of training.
        """
        own = torch.tensor(numbers, dtype=torch.float64)
        if self.count == 1:
            return [own.tolist()]
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(gathered, own, group=self._hosts)
        return [numbers.tolist() for numbers in gathered]

    def sum(self, value: float) -> float:
        """Return the sum of a value over all processes."""
        return value if self.count == 1 else sum(number for (number,) in self.gather_numbers([value]))

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
