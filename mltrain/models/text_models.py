"""Text models by name, building one with arguments that are checked, and what its forward takes of a batch."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.core.registry import Registry
from mltrain.models.building import build_with_options, published_by
from mltrain.models.structure import built_class

__all__ = [
    "TEXT_MODELS",
    "Head",
    "build_text_model",
    "hidden_size",
    "published_text_weights",
    "refuse_text_elsewhere",
    "register_text_model",
    "text_config",
    "text_inputs",
]

Head = Literal["sequence_classification", "question_answering", "encoder"]
"""What stands on the encoder: `logits` (B, num_labels); `start_logits` and `end_logits` (B, L); nothing, so that the
model gives `last_hidden_state` (B, L, hidden size)."""

TextBuilder = Callable[..., nn.Module]
"""(head, vocab_size, pad_id, num_labels, max_length, **options) -> module of `input_ids` and `attention_mask` (B, L),
whose output has what its head gives as attributes.

A builder may have an attribute `published`: the hub name or folder of the weights that DEFAULT takes.
"""

_TRANSFORMERS = "mltrain.models.text_transformers"
TEXT_MODELS: Registry[TextBuilder] = Registry(
    "text model",
    builtin={"bert_mini": _TRANSFORMERS, "bert_tiny": _TRANSFORMERS, "cnn_text": "mltrain.models.text_cnn"},
    group="mltrain.text_models",
    config_key="model.architecture",
)

register_text_model = TEXT_MODELS.register


def build_text_model(
    architecture: str,
    head: Head,
    *,
    vocab_size: int,
    pad_id: int,
    num_labels: int = 2,
    max_length: int,
    options: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return a new text model with fresh weights.

    Args:
        architecture: a known name; a folder that `save_pretrained` wrote; or a hub name.
        head: what it ends with.
        vocab_size: entries of the tokenizer.
        pad_id: the token that fills shorter texts up.
        num_labels: size of the output of a classifier; the other heads take no notice.
        max_length: tokens of the longest input.
        options: arguments of the architecture.
        config: a transformers configuration that holds all of this already: a package's, which needs no folder or hub.

    Raises:
        ConfigError: unknown architecture, an option that it does not take, or one that the tokenizer does not fit.
    """
    given = {
        "head": head, "vocab_size": vocab_size, "pad_id": pad_id, "num_labels": num_labels, "max_length": max_length,
    }  # fmt: skip
    if config is not None:
        builder: TextBuilder = importlib.import_module(_TRANSFORMERS).TransformersTextModel(config)
        return builder(**given)
    builder = _builder(architecture)
    return build_with_options(architecture, builder, options, **given)


def refuse_text_elsewhere(architecture: str) -> None:
    """Raise ConfigError for an architecture that is not known by its name, but would be read from a folder or a hub."""
    if architecture not in TEXT_MODELS.names():
        raise ConfigError(
            f"{architecture!r} is none of the known text models ({', '.join(TEXT_MODELS.names())})",
            where="model.architecture",
            fix="Load the plugin that defines it, or trust no package that names another place.",
        )


def published_text_weights(architecture: str) -> str:
    """Return the hub name, or the folder, of the weights that belong to an architecture.

    Raises:
        ConfigError: there are none.
    """
    return published_by(_builder(architecture), architecture)


def text_inputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the forward of a text model takes of a batch: `model(**text_inputs(model, batch))`.

    Args:
        model: as it was built, or wrapped by a trainer.
        batch: `input_ids` and `attention_mask`, int64 (B, L), and `token_type_ids` where texts are pairs.
    """
    inner = _innermost(model)
    kind: Any = built_class(inner)
    accepted = _accepted(kind)
    ids = batch["input_ids"]
    inputs = {"input_ids": ids, "attention_mask": batch["attention_mask"]}
    if "token_type_ids" in accepted:
        # Left out, transformers takes one row of zeros for all examples: there would be no gradient of each.
        inputs["token_type_ids"] = batch["token_type_ids"] if "token_type_ids" in batch else torch.zeros_like(ids)
    if "position_ids" in accepted and _counts_from_zero(inner):
        inputs["position_ids"] = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    return inputs


def hidden_size(model: nn.Module) -> int:
    """Return the width of `last_hidden_state`."""
    inner: Any = _innermost(model)
    return int(inner.hidden_size if hasattr(inner, "hidden_size") else inner.config.hidden_size)


def text_config(model: nn.Module) -> dict[str, Any] | None:
    """Return the configuration of a model of transformers, as `build_text_model` takes it; None: it is none."""
    config: Any = getattr(_innermost(model), "config", None)
    if not hasattr(config, "to_json_string"):
        return None
    values: dict[str, Any] = json.loads(config.to_json_string())
    # transformers leaves it out, and would choose for itself.
    return {**values, "attn_implementation": config._attn_implementation}


def _builder(architecture: str) -> TextBuilder:
    if "/" in architecture or "\\" in architecture or architecture not in TEXT_MODELS.names():
        elsewhere: TextBuilder | None = importlib.import_module(_TRANSFORMERS).text_model_elsewhere(architecture)
        if elsewhere is not None:
            return elsewhere
    return TEXT_MODELS.get(architecture)


def _innermost(model: nn.Module) -> nn.Module:
    """Return the model within the wrappers of DDP, DeepSpeed and torch.compile."""
    while True:
        inner = model._modules.get("_orig_mod") or model._modules.get("module")
        if inner is None:
            return model
        model = inner


@functools.cache
def _accepted(kind: Any) -> frozenset[str]:
    """Return the names of what the forward of a class takes."""
    return frozenset(inspect.signature(kind.forward).parameters)


def _counts_from_zero(model: Any) -> bool:
    """Return whether a model has learned positions, one for each place from 0 on.

    It would take the same row for all examples, unless it is given one for each. Those that count from behind the
    padding token, as RoBERTa, make one for each themselves.
    """
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    positions = getattr(embeddings, "position_embeddings", None)
    return isinstance(positions, nn.Embedding) and positions.padding_idx is None
