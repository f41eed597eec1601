"""Exponential moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import nn

__all__ = ["EMA"]


class EMA:
    """A second copy of the model whose weights follow the first's: average = decay * average + (1 - decay) * weight.

    Buffers (running statistics) are copied, as in torch.optim.swa_utils with its default `use_buffers=False` they are
    not: an average of weights with statistics of the start would be useless without a pass over the data.

    Args:
        model: the model followed, unwrapped and on its device.
        decay: share of the old average kept each step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.model.eval()
        self._decay = decay
        self._averages: list[torch.Tensor] = [p for p in self.model.parameters() if p.is_floating_point()]
        self._weights: list[torch.Tensor] = [p for p in model.parameters() if p.is_floating_point()]
        self._copies = list(_pairs(self.model, model))

    @torch.no_grad()
    def update(self) -> None:
        """Follow one step."""
        torch._foreach_lerp_(self._averages, self._weights, 1.0 - self._decay)
        for target, source in self._copies:
            target.copy_(source)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the averaged model's state dict."""
        return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back a state dict."""
        self.model.load_state_dict(state)


def _pairs(target: nn.Module, source: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the tensors that are copied, not averaged: buffers, and parameters that are not of floating point."""
    yield from zip(target.buffers(), source.buffers(), strict=True)
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        if not mine.is_floating_point():
            yield mine, theirs
