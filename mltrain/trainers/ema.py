"""Exponential moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from mltrain.trainers.buffers import buffer_places

__all__ = ["EMA", "averaged_copy"]


def averaged_copy(model: nn.Module) -> nn.Module:
    """Return a second model for the average of the weights, which are those of the first so far."""
    return copy.deepcopy(model).requires_grad_(False).eval()


class EMA:
    """A second copy of the model whose weights follow the first's: average = decay * average + (1 - decay) * weight.

    Buffers (running statistics) are copied, as in torch.optim.swa_utils with its default `use_buffers=False` they are
    not: an average of weights with statistics of the start would be useless without a pass over the data.

    Args:
        average: from `averaged_copy`, on the devices and in the parts that the other model is.
        model: the model followed, unwrapped.
        decay: share of the old average kept each step.
    """

    def __init__(self, average: nn.Module, model: nn.Module, decay: float) -> None:
        self.model = average
        self._decay = decay
        self._averages: list[torch.Tensor] = [p for p in self.model.parameters() if p.is_floating_point()]
        self._weights: list[torch.Tensor] = [p for p in model.parameters() if p.is_floating_point()]
        self._copies = [
            (mine, theirs)
            for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True)
            if not mine.is_floating_point()
        ]
        self._buffers = list(zip(buffer_places(self.model).values(), buffer_places(model).values(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Follow one step."""
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - self._decay)
        for target, source in self._copies:
            target.copy_(source)
        for mine, theirs in self._buffers:
            mine.tensor.copy_(theirs.tensor)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the averaged model's state dict."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back a state dict."""
        self.model.load_state_dict(state)
