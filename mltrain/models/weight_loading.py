"""Taking weights into a new model: all of them must fit, but for the head and for positions of another image size."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.core.logging import log
from mltrain.core.quiet_library import quiet
from mltrain.models.encoder_heads import HEAD_OPTIONS
from mltrain.models.structure import head_names
from mltrain.models.weights import WeightsSource

__all__ = ["load_weights", "resized_positions"]

# Learned positions of transformers' models and of timm's.
_POSITIONS = ("position_embeddings", "pos_embed")
# Of pretraining, or counted anew: nothing that a classifier computes with.
_UNUSED = ("pooler.", "mask_token", "num_batches_tracked")
_SHOWN = 3


@dataclass(frozen=True)
class _Fit:
    """What of a source fits a model: tensors in the model's own names, and the names that do not fit."""

    tensors: Mapping[str, torch.Tensor]
    missing: Collection[str]
    unknown: Collection[str]
    misshapen: Mapping[str, tuple[list[int], list[int]]]


def load_weights(model: nn.Module, source: WeightsSource) -> None:
    """Take weights into a model. A head of another size, or that read other outputs, stays as it is: of the seed.

    A model on the device "meta" is only checked: the headers of the files are read, and nothing is loaded.

    Raises:
        ConfigError: anything but the head does not fit.
    """
    only_check = next(model.parameters()).is_meta
    tensors = _with_resized_positions(source.shapes() if only_check else source.tensors(), model)
    fit = _fit_pretrained(model, tensors) if hasattr(model, "base_model_prefix") else _fit(model, tensors)
    heads = head_names(model)
    if _head_read_otherwise(model, heads, source):
        fit = _without(fit, heads)
    _refuse_misfits(fit, heads, source, model)
    if only_check:
        return
    own = model.state_dict()
    # transformers' own class may have a pooler that this model was built without.
    model.load_state_dict({**own, **{name: tensor for name, tensor in fit.tensors.items() if name in own}})
    log.info("Initial weights: %s.", source.name)
    _tell_new(fit, heads, model)


def _head_read_otherwise(model: nn.Module, heads: tuple[str, ...], source: WeightsSource) -> bool:
    """Return whether the head of the source stood on other outputs of the encoder, which no shape need tell."""
    base = getattr(model, "base_model_prefix", "") or "-"
    if not hasattr(model, base) or heads[0].startswith(f"{base}."):
        return False  # an encoder without a head
    theirs, config = source.pretrained_config(), getattr(model, "config", None)
    return bool(theirs) and any(
        theirs.get(name, usual) != getattr(config, name, usual) for name, usual in HEAD_OPTIONS.items()
    )


def _without(fit: _Fit, heads: tuple[str, ...]) -> _Fit:
    """Return the fit as if the source had no heads."""
    own = tuple(f"{head}." for head in heads)
    taken = {name: tensor for name, tensor in fit.tensors.items() if not name.startswith(own)}
    return replace(fit, tensors=taken, missing={*fit.missing, *(fit.tensors.keys() - taken.keys())})


def _tell_new(fit: _Fit, heads: tuple[str, ...], model: nn.Module) -> None:
    """Say which parts begin with weights of the seed."""
    for head in heads:
        if misshapen := sorted(name for name in fit.misshapen if name.startswith(f"{head}.")):
            mine, had = list(model.state_dict()[misshapen[-1]].shape), fit.misshapen[misshapen[-1]][0]
            if mine[:1] == had[:1]:
                log.info("The head (%s) is new: it reads %d values instead of %d.", head, mine[-1], had[-1])
            else:
                log.info("The head (%s) is new: %d classes instead of %d.", head, mine[0], had[0])
        elif any(name.startswith(f"{head}.") for name in fit.missing):
            log.info("The head (%s) is new.", head)
    poolers = {name.partition("pooler.")[0] + "pooler" for name in fit.missing if "pooler." in name}
    for pooler in sorted(poolers):
        log.warning("%s is new, drawn from the seed: these weights have none.", pooler)


def resized_positions(positions: torch.Tensor, count: int) -> torch.Tensor | None:
    """Return learned positions for another number of patches, or None where they are not of a square.

    The grid is interpolated (bicubic, as transformers' `interpolate_pos_encoding` does); what stands before it (the
    class token, and a distillation token) stays as it is.

    Args:
        positions: shape (1, tokens + patches, width).
        count: tokens + patches of the new shape.
    """
    for tokens in (1, 2, 0):
        old, new = math.isqrt(max(0, positions.shape[1] - tokens)), math.isqrt(max(0, count - tokens))
        if old > 0 and new > 0 and old * old == positions.shape[1] - tokens and new * new == count - tokens:
            before, grid = positions[:, :tokens], positions[:, tokens:]
            grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
            grid = F.interpolate(grid.float(), size=(new, new), mode="bicubic", align_corners=False)
            return torch.cat([before, grid.permute(0, 2, 3, 1).reshape(1, new * new, -1).to(before.dtype)], dim=1)
    return None


def _with_resized_positions(tensors: dict[str, torch.Tensor], model: nn.Module) -> dict[str, torch.Tensor]:
    wanted = [tensor for name, tensor in model.named_parameters() if name.endswith(_POSITIONS)]
    given = [name for name in tensors if name.endswith(_POSITIONS)]
    if len(wanted) == len(given) == 1:
        tensor, target = tensors[given[0]], wanted[0]
        if tensor.ndim == target.ndim == 3 and tensor.shape[1] != target.shape[1]:
            resized = resized_positions(tensor, target.shape[1])
            if resized is not None:
                return {**tensors, given[0]: resized}
    return tensors


def _fit(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> _Fit:
    own = model.state_dict()
    misshapen = {
        name: (list(tensor.shape), list(own[name].shape))
        for name, tensor in tensors.items()
        if name in own and tensor.shape != own[name].shape
    }
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and name not in misshapen}
    return _Fit(fitting, own.keys() - tensors.keys(), tensors.keys() - own.keys(), misshapen)


def _fit_pretrained(model: Any, tensors: dict[str, torch.Tensor]) -> _Fit:
    """Let transformers match the names: those of published files are often older than the classes."""
    from transformers.utils import logging

    on_meta = {"device_map": "meta"} if next(model.parameters()).is_meta else {}
    # A context that makes tensors on "meta" stops transformers, which asks for the device by argument.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), quiet(logging):
        other, told = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=tensors,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
            **on_meta,
        )
    misshapen = {name: (list(theirs), list(ours)) for name, theirs, ours in told["mismatched_keys"]}
    missing = set(told["missing_keys"])
    fitting = {k: tensor for k, tensor in other.state_dict().items() if k not in missing and k not in misshapen}
    return _Fit(fitting, missing, _unknown(told["unexpected_keys"], tensors, model), misshapen)


def _unknown(names: Collection[str], tensors: Collection[str], model: Any) -> set[str]:
    """Return the names that have no place in a model, without the heads that a file has beside its base model."""
    base = f"{model.base_model_prefix}."
    has_heads = any(name.startswith(base) for name in tensors)
    return {name for name in names if name.startswith(base) or not has_heads}


def _refuse_misfits(fit: _Fit, heads: tuple[str, ...], source: WeightsSource, model: nn.Module) -> None:
    own = tuple(f"{head}." for head in heads)

    def wrong(names: Collection[str]) -> list[str]:
        return sorted(n for n in names if not n.startswith(own) and not any(part in n for part in _UNUSED))

    problems = []
    if missing := wrong(fit.missing):
        problems.append(f"{len(missing)} are missing ({_some(missing)})")
    if misshapen := wrong(fit.misshapen):
        shapes = [f"{name} is {fit.misshapen[name][0]}, not {fit.misshapen[name][1]}" for name in misshapen]
        problems.append(f"{len(misshapen)} have another shape ({_some(shapes)})")
    if unknown := wrong(fit.unknown):
        problems.append(f"{len(unknown)} are unknown ({_some(unknown)})")
    if missing and all("running_" in name for name in missing) and len(problems) == 1:
        raise ConfigError(
            f"{source.name} has no statistics of batch norms, as private training leaves it: its norms are group norms",
            where="model.weights",
            fix="Name weights of another run, or continue that run itself with --resume.",
        )
    if problems:
        raise ConfigError(
            f"the tensors of {source.name} do not fit {type(model).__name__}: {'; '.join(problems)}",
            where="model.weights",
            fix="Name weights of this architecture, or set model.options to theirs.",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
