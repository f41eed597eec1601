"""LoRA (Hu et al. 2021): each weight W that is adapted stays as it is, and a product of two narrow ones is trained.

A layer then computes W x + (alpha / rank) B A x, where A has `rank` rows and B, which begins as zeros, `rank` columns.
The layers are peft's, put into the model in place: its class, its names and its outputs are those it had.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from mltrain.config.section import Section
from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.models.freezing import freeze, freeze_but, matching
from mltrain.models.structure import head_names

__all__ = ["LoraSection", "add_lora", "choose_trained", "has_lora", "merge_lora", "merged_tensors"]

_KEY = "model.lora"
_ADAPTER = "default"
_A, _B, _W = f".lora_A.{_ADAPTER}.weight", f".lora_B.{_ADAPTER}.weight", ".base_layer.weight"
_SUITED = (nn.Linear, nn.Conv1d, nn.Conv2d)


class LoraSection(Section):
    """LoRA: the model stays as it is but for its head, and for narrow products beside the weights of its layers."""

    rank: int = Field(8, ge=1, description="Width of the trained products.")
    alpha: float = Field(16.0, gt=0.0, description="The products count alpha / rank times.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Share of a layer's inputs that its product does not see.")
    targets: Literal["auto"] | list[str] = Field(
        "auto",
        description="Layers that are adapted. auto: all linear layers before the head; or patterns of module names, "
        "of which one without a dot also matches the last part of a name: query.",
    )
    train: list[str] = Field(
        default_factory=list, description="Patterns of further parameters that are trained, such as '*LayerNorm*'."
    )


def choose_trained(
    model: nn.Module, *, frozen: Literal["backbone"] | Sequence[str] | None, lora: LoraSection | None
) -> None:
    """Freeze what `model.freeze` names, or add the adapters of `model.lora`.

    Args:
        model: with its initial weights; changed in place.
        frozen: see `freezing.freeze`.
        lora: a LoraSection, or None.

    Raises:
        ConfigError: both are given, or one of them cannot be done.
    """
    if lora is None:
        freeze(model, frozen)
        return
    if frozen is not None:
        raise ConfigError(
            "is set beside model.lora, which freezes all but its adapters and the head",
            where="model.freeze",
            fix="Leave it out, and name what else is trained in model.lora.train.",
        )
    add_lora(model, lora)


def add_lora(model: nn.Module, section: LoraSection) -> None:
    """Put adapters beside layers of a model, in place, and freeze all but them, the head and `section.train`.

    The weights of A are drawn from torch's default generator; those of B are 0, so that the outputs are unchanged.
    Norms and dropout of modules that are frozen as a whole stay in evaluation mode.

    Args:
        model: with its initial weights; may be on the device "meta".
        section: how.

    Raises:
        ConfigError: there is no layer to adapt, or a pattern matches nothing.
    """
    from peft import LoraConfig, inject_adapter_in_model

    heads = tuple(f"{head}." for head in head_names(model))
    parameters = dict(model.named_parameters())
    trained = {name for name in parameters if name.startswith(heads)}
    for pattern in section.train:
        trained.update(matching(pattern, list(parameters), f"{_KEY}.train"))
    kept = [parameters[name] for name in trained]
    # A list of names would also match the ends of others.
    exactly = "|".join(map(re.escape, _targets(model, section.targets, heads)))
    config = LoraConfig(r=section.rank, lora_alpha=section.alpha, lora_dropout=section.dropout, target_modules=exactly)
    inject_adapter_in_model(config, model, _ADAPTER)
    for parameter in kept:  # peft has frozen all there was
        parameter.requires_grad_(True)
    # Names of adapted layers are other ones now; their parameters are the same.
    freeze_but(model, {name for name, parameter in model.named_parameters() if parameter.requires_grad})


def has_lora(model: nn.Module) -> bool:
    """Return whether a model has adapters."""
    return any(hasattr(module, "lora_A") for module in model.modules())


def merge_lora(model: nn.Module) -> nn.Module:
    """Add the products to the weights they stand beside, and take the adapters out of the model, in place.

    Its outputs stay the same up to rounding, and it is of the layers it was built of: a model of transformers can be
    saved with `save_pretrained` and read by `from_pretrained`.
    """
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "lora_A"):
            adapted: Any = layer
            adapted.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, adapted.get_base_layer())
    model.__dict__.pop("peft_config", None)
    return model


def merged_tensors(tensors: Mapping[str, Tensor], section: LoraSection) -> dict[str, Tensor]:
    """Return the state of a model with adapters as that of the model without: W + (alpha / rank) B A."""
    merged = {name: tensor for name, tensor in tensors.items() if not name.endswith((_A, _B))}
    for name in [name for name in tensors if name.endswith(_A)]:
        layer = name.removesuffix(_A)
        weight, narrow, wide = tensors[layer + _W], tensors[name], tensors[layer + _B]
        product = (wide.flatten(1) @ narrow.flatten(1)).view(weight.shape)
        merged[layer + _W] = weight + section.alpha / section.rank * product
    return {name.replace(".base_layer.", "."): tensor for name, tensor in merged.items()}


def _targets(model: nn.Module, wish: Literal["auto"] | Sequence[str], heads: tuple[str, ...]) -> list[str]:
    """Return the names of the layers to adapt."""
    suited = {name for name, layer in model.named_modules() if _is_suited(model, name, layer)}
    before = {name for name in suited if not f"{name}.".startswith(heads)}
    if wish == "auto":
        found = sorted(name for name in before if isinstance(model.get_submodule(name), nn.Linear))
        if not found:
            fix = f"Name its convolutions in {_KEY}.targets: ['*']." if before else "Leave it out."
            raise ConfigError(f"{type(model).__name__} has no linear layer before its head", where=_KEY, fix=fix)
        return found
    return sorted({name for pattern in wish for name in _matched(pattern, model, suited, before)})


def _matched(pattern: str, model: nn.Module, suited: Collection[str], before: Collection[str]) -> list[str]:
    key = f"{_KEY}.targets"
    names = [name for name, _ in model.named_modules() if name]
    last = "" if "." in pattern else pattern
    found = [n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n.rpartition(".")[2], last)]
    if chosen := [name for name in found if name in before]:
        return chosen
    if not found:
        known = sorted(before)
        close = nearest(pattern, [*{name.rpartition(".")[2] for name in known}, *known])
        hint = f"Did you mean {close!r}?" if close else f"Names are like {known[-1]!r}." if known else "Leave it out."
        raise ConfigError(f"no module matches {pattern!r}", where=key, fix=hint)
    if found[0] in suited:
        raise ConfigError(
            f"{pattern!r} matches the head alone, which is trained whole", where=key, fix="Name layers before it."
        )
    raise ConfigError(
        f"{pattern!r} matches {found[0]} ({type(model.get_submodule(found[0])).__name__}), which cannot be adapted",
        where=key,
        fix="Name linear layers or convolutions.",
    )


def _is_suited(model: nn.Module, name: str, layer: nn.Module) -> bool:
    """Return whether a layer can be adapted, and the products be merged.

    Convolutions in groups cannot; torch's attention takes the weights of its layers without calling them.
    """
    owner = model.get_submodule(name.rpartition(".")[0]) if name else None
    in_groups = getattr(layer, "groups", 1) != 1
    return isinstance(layer, _SUITED) and not in_groups and not isinstance(owner, nn.MultiheadAttention | None)
