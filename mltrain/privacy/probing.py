"""Trying a model out on batches, alike each time, without a trace: what the probes for coupled losses share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["buffers_put_back", "changed_buffers", "copied_buffers", "left_as_it_was", "seed_all", "shares_moved"]

_SEED = 20_240_607
_BUFFER_TOLERANCE = 1e-6


def seed_all(offset: int = 0) -> None:
    """Seed the global generators of torch, random and numpy: the same draws for the same offset."""
    torch.manual_seed(_SEED + offset)
    random.seed(_SEED + offset)
    np.random.seed(_SEED + offset)


@contextmanager
def left_as_it_was(model: nn.Module, device: torch.device, *, training: bool) -> Iterator[None]:
    """Put a model in training or evaluation mode; afterwards give back all modes and the state of all generators."""
    modes = [(module, module.training) for module in model.modules()]
    generators = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.set_grad_enabled(training):
            model.train(training)
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        for module, mode in modes:
            module.training = mode


@contextmanager
def buffers_put_back(model: nn.Module) -> Iterator[None]:
    """Give back to every buffer its tensor, with its values, after a forward pass; new ones are taken away."""
    kept = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    known = [(module, set(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, values in kept:
                if buffer is not None and values is not None:
                    buffer.copy_(values)
                module._buffers[name] = buffer
        for module, names in known:
            for name in set(module._buffers) - names:
                del module._buffers[name]


def copied_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of a model's buffers, by name."""
    return {name: buffer.detach().clone() for name, buffer in model.named_buffers()}


def changed_buffers(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Return the names of buffers that differ: in a value, beyond a millionth of it, in shape or in being there."""
    names = [*before, *(name for name in after if name not in before)]
    return [name for name in names if _differ(before.get(name), after.get(name))]


def _differ(before: Tensor | None, after: Tensor | None) -> bool:
    if before is None or after is None or before.shape != after.shape or before.dtype != after.dtype:
        return True
    if not before.is_floating_point() and not before.is_complex():
        return not torch.equal(before, after)
    return not torch.allclose(before, after, rtol=_BUFFER_TOLERANCE, atol=0.0, equal_nan=True)


def shares_moved(before: Tensor, after: Tensor, *, least_scale: float = 1e-6) -> Tensor:
    """Return how far each loss has moved, as a share of the mean size of the finite ones; NaN to NaN is no move.

    Args:
        before: losses (B,), float64.
        after: those of the same examples.
        least_scale: what a smaller mean size counts as.
    """
    finite = before[before.isfinite()].abs()
    scale = float(finite.mean()) if len(finite) else 0.0
    difference = torch.where(before.isfinite() & after.isfinite(), (before - after).abs(), torch.inf)
    same = (before == after) | (before.isnan() & after.isnan())
    return torch.where(same, 0.0, difference / max(scale, least_scale))
