"""Optimizers by name: those that torch ships."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from mltrain.checkpoints.parts import is_divided
from mltrain.config.training import OptimizerSection
from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.trainers.parameter_groups import parameter_groups

__all__ = ["build_optimizer", "optimizer_class", "optimizer_names"]

# LBFGS needs a closure that evaluates the loss again; SparseAdam takes sparse gradients only; Muon takes matrices only.
_UNSUITED = {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
_NAMED = ("lr", "weight_decay", "momentum", "betas", "eps", "fused")
_FUSED_DEVICES = {"cpu", "cuda", "mps", "xpu"}
# Of the others torch's one operation for all parameters does not know tensors that are divided among processes.
_FUSED_IN_PARTS = (torch.optim.Adam, torch.optim.AdamW)


def optimizer_names() -> dict[str, type[torch.optim.Optimizer]]:
    """Return every offered optimizer by its name in lower case."""
    return {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in _UNSUITED
    }


def optimizer_class(section: OptimizerSection) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the class that a section names and its arguments, checked against the class's signature.

    Raises:
        ConfigError: unknown optimizer, an argument that it does not take, or one that has a key of its own.
    """
    known = optimizer_names()
    if section.name not in known:
        close = nearest(section.name.lower(), list(known))
        hint = f"Did you mean {close}?" if close else f"Known: {', '.join(sorted(known))}."
        raise ConfigError(f"unknown optimizer {section.name!r}", where="optimizer.name", fix=hint)
    kind = known[section.name]
    accepted = [name for name in inspect.signature(kind).parameters if name != "params"]
    for name in section.options:
        if name in _NAMED:
            raise ConfigError(
                f"{name} has a key of its own", where=f"optimizer.options.{name}", fix=f"Set optimizer.{name} instead."
            )
    arguments: dict[str, Any] = dict(section.options)
    for name in _NAMED:
        value = getattr(section, name)
        if value is not None:
            arguments[name] = tuple(value) if name == "betas" else value
    for name in arguments:
        if name not in accepted:
            place = "optimizer.options" if name in section.options else "optimizer"
            raise ConfigError(
                f"{section.name} has no argument {name!r}",
                where=f"{place}.{name}",
                fix=f"It takes: {', '.join(accepted)}.",
            )
    return kind, arguments


def build_optimizer(section: OptimizerSection, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of a model's trainable parameters. The model must be on its device by now.

    Raises:
        ConfigError: unknown optimizer, arguments that it does not take, or nothing to train.
    """
    kind, arguments = optimizer_class(section)
    groups = parameter_groups(section, model, weight_decay=_weight_decay(kind, arguments))
    parameters = [parameter for group in groups for parameter in group["params"]]
    if not parameters:
        raise ConfigError("has no parameters to train", where="model", fix="Give it some, or freeze fewer.")
    if "fused" not in arguments and _can_fuse(kind, arguments, parameters):
        arguments["fused"] = True
    try:
        return kind(groups, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{section.name} refuses its arguments ({error})", where="optimizer", fix="Correct them."
        ) from error


def _weight_decay(kind: type[torch.optim.Optimizer], arguments: dict[str, Any]) -> float:
    """Return the weight decay in force: the one given, else the optimizer's own default."""
    own = inspect.signature(kind).parameters.get("weight_decay")
    value: float = arguments.get("weight_decay", 0.0 if own is None else own.default)
    return value


def _can_fuse(kind: type[torch.optim.Optimizer], arguments: dict[str, Any], parameters: list[nn.Parameter]) -> bool:
    if "fused" not in inspect.signature(kind).parameters:
        return False
    if any(arguments.get(name) for name in ("foreach", "differentiable", "capturable")):
        return False
    if any(is_divided(parameter) for parameter in parameters) and kind not in _FUSED_IN_PARTS:
        return False
    return all(parameter.device.type in _FUSED_DEVICES and parameter.is_floating_point() for parameter in parameters)
