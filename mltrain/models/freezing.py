"""Freezing parts of a model: their parameters get no gradient, and their norms and dropout stay in evaluation mode."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate
from types import MethodType
from typing import Literal

from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.models.structure import head_names

__all__ = ["freeze", "freeze_but", "matching"]

_KEY = "model.freeze"


def freeze(model: nn.Module, wish: Literal["backbone"] | Sequence[str] | None) -> None:
    """Freeze parameters, and keep every module that holds frozen parameters alone in evaluation mode.

    So running statistics of a frozen batch norm stay as they are, and its output does not depend on the batch.

    Args:
        model: changed in place.
        wish: "backbone" for all but the head, or patterns (`*`, `?`, `[...]`) of parameter names, of which `!` takes
            names out again: as in .gitignore, the last that matches counts. None: nothing is frozen.

    Raises:
        ConfigError: a pattern that matches nothing, or nothing is left to train.
    """
    if wish is None:
        return
    names = [name for name, _ in model.named_parameters()]
    if wish == "backbone":
        heads = tuple(f"{head}." for head in head_names(model))
        frozen = {name for name in names if not name.startswith(heads)}
    else:
        frozen = set()
        for pattern in wish:
            found = matching(pattern.removeprefix("!"), names, _KEY)
            frozen = frozen.difference(found) if pattern.startswith("!") else frozen.union(found)
    if not frozen and wish:
        raise ConfigError("freezes nothing", where=_KEY, fix="`!` takes names out of those before it: begin with '*'.")
    if frozen.issuperset(names):
        raise ConfigError("freezes every parameter", where=_KEY, fix="Leave some to be trained.")
    freeze_but(model, set(names) - frozen)


def freeze_but(model: nn.Module, trained: Collection[str]) -> None:
    """Freeze all parameters but those of these names, and keep modules of frozen ones alone in evaluation mode."""
    for name, parameter in model.named_parameters():
        if name not in trained:
            parameter.requires_grad_(False)
    _hold_in_evaluation(model)


def matching(pattern: str, names: Sequence[str], key: str) -> list[str]:
    """Return the names of parameters that a pattern matches.

    Raises:
        ConfigError: there are none; the nearest name is told, as of the configuration's `key`.
    """
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        modules = {part for name in names for part in accumulate(name.split(".")[:-1], "{}.{}".format)}
        close = nearest(pattern, [*names, *sorted(f"{module}.*" for module in modules)])
        hint = f"Did you mean {close!r}?" if close else f"Names are like {names[0]!r} and {names[-1]!r}."
        raise ConfigError(f"no parameter matches {pattern!r}", where=key, fix=hint)
    return found


def _hold_in_evaluation(module: nn.Module) -> None:
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            # A bound method is copied with its module, as an average of the weights needs it; a closure is not.
            object.__setattr__(child, "train", MethodType(_stay_in_evaluation, child))
            child.eval()
        else:
            _hold_in_evaluation(child)


def _stay_in_evaluation(module: nn.Module, mode: bool = True) -> nn.Module:  # noqa: ARG001 (nn.Module.train's own)
    return nn.Module.train(module, False)
