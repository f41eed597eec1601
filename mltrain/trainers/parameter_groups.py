"""Which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from mltrain.config.training import OptimizerSection
from mltrain.models.structure import layer_depths

__all__ = ["parameter_groups"]


def parameter_groups(section: OptimizerSection, model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups, highest learning rate first.

    With `layer_decay`, the rate of a parameter is lr * layer_decay ** (depth of the head - its depth): Clark et al.
    2020, "ELECTRA"; Bao et al. 2021, "BEiT". Vectors (biases, scales and shifts of norms, class tokens) have no weight
    decay unless `decay_norms_and_biases` says so.

    Args:
        section: the configuration.
        model: whose parameters are grouped.
        weight_decay: what the optimizer decays with; 0 makes no groups for it.
    """
    depths = layer_depths(model) if section.layer_decay is not None else {}
    top = max(depths.values(), default=0)
    factor = section.layer_decay if section.layer_decay is not None else 1.0
    members: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = weight_decay > 0 and not section.decay_norms_and_biases and _is_vector(parameter)
            members.setdefault((top - depths.get(name, top), spared), []).append(parameter)
    return [
        {"params": parameters, "lr": section.lr * factor**below, **({"weight_decay": 0.0} if spared else {})}
        for (below, spared), parameters in sorted(members.items(), key=lambda item: item[0])
    ]


def _is_vector(parameter: nn.Parameter) -> bool:
    """Return whether a parameter has one dimension, or only its last counts: (1, 1, C), as some norms keep theirs."""
    return parameter.ndim <= 1 or (parameter.ndim >= 3 and parameter.shape[-1] == parameter.numel())
