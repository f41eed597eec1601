"""What a forward pass changes beside gradients, put back when its step is not taken."""

from __future__ import annotations

import torch
from torch import nn

from mltrain.trainers.buffers import buffer_places

__all__ = ["BufferGuard"]


class BufferGuard:
    """Keeps a model's buffers, such as running statistics, from before a step.

    Buffers that are not saved with the model are constants and not kept. (A tensor's version counter would tell which
    ones change, but batch norm does not raise it.)

    Args:
        model: not wrapped.
    """

    def __init__(self, model: nn.Module) -> None:
        saved = model.state_dict(keep_vars=True)
        self._places = [place for name, place in buffer_places(model).items() if name in saved]
        self._kept = [place.tensor.detach().clone() for place in self._places]

    @torch.no_grad()
    def keep(self) -> None:
        """Keep the buffers as they are."""
        if self._places:
            torch._foreach_copy_(self._kept, [place.tensor for place in self._places])

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the buffers the values that they had when they were last kept."""
        if self._places:
            torch._foreach_copy_([place.tensor for place in self._places], self._kept)
