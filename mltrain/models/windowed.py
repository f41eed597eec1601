"""One forward pass over examples of several windows each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mltrain.models.private_layers import keeps_examples_apart

__all__ = ["over_windows"]

_PER_WINDOW = ("input_ids", "attention_mask", "token_type_ids")


def over_windows(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    call: Callable[[nn.Module, dict[str, Tensor]], Any],
    names: Sequence[str],
) -> dict[str, Tensor]:
    """Return what a text model makes of each window, (B, W, ...).

    All windows go through the model at once. Where it keeps examples apart, the first windows of all examples do, then
    the second ones, and so on: the gradients of single examples, which differential privacy clips, can then be told
    apart, and add up over the windows.

    Args:
        model: as it was built, or wrapped by a trainer.
        batch: `input_ids`, `attention_mask` and `token_type_ids`, (B, W, L).
        call: (model, the same three of N windows, (N, L)) -> an output that has tensors (N, ...) as attributes.
        names: of these attributes, those that are wanted.
    """
    windows = {name: batch[name] for name in _PER_WINDOW}
    count = windows["input_ids"].shape[1]
    if not keeps_examples_apart(model) or count == 1:
        output = call(model, {name: tensor.flatten(0, 1) for name, tensor in windows.items()})
        return {name: getattr(output, name).unflatten(0, (-1, count)) for name in names}
    outputs = [call(model, {name: tensor[:, number] for name, tensor in windows.items()}) for number in range(count)]
    return {name: torch.stack([getattr(output, name) for output in outputs], dim=1) for name in names}
