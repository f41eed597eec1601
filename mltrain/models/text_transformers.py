"""Text models from transformers' configurations: by name, from a folder, or from the hub. No code is fetched.

`bert_tiny` and `bert_mini` have the sizes of Turc et al. 2019 ("Well-read students learn better"), BERT's architecture
(Devlin et al. 2019) and no published weights: they are trained from the start, with a vocabulary of the run's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from mltrain.core.errors import ConfigError, one_line
from mltrain.models.encoder_heads import HEAD_OPTIONS, build_with_own_head, takes_pooler
from mltrain.models.pretrained_configs import config_elsewhere, without_checkpoint
from mltrain.models.text_models import Head, register_text_model

__all__ = ["TransformersTextModel", "text_model_elsewhere"]

_ATTENTION = ("sdpa", "eager")
_GIVEN = ("vocab_size", "pad_token_id", "max_position_embeddings")


class TransformersTextModel:
    """Builds the model of a configuration.

    Its options are the arguments of transformers' configuration class, `attn_implementation` ("sdpa" or "eager": how
    attention is computed), and those of `build_with_own_head`.

    Args:
        values: the configuration: `model_type`, and what differs from the defaults of its class.
        published: hub name or folder of the weights that DEFAULT takes.
        sized: its vocabulary and its positions are made to the measure of the data. False: they are the configuration's
            own, and the tokenizer must fit.

    Raises:
        ConfigError: transformers has no model of this type with the head that is asked for.
    """

    def __init__(self, values: Mapping[str, Any], *, published: str | None = None, sized: bool = False) -> None:
        self._values = without_checkpoint(values)
        if values.get("attn_implementation") in _ATTENTION:  # of a package; any other might be code of the hub
            self._values["attn_implementation"] = values["attn_implementation"]
        self.published, self._sized = published, sized

    @property
    def __signature__(self) -> inspect.Signature:
        """The options, as `inspect.signature` finds them."""
        from transformers import CONFIG_MAPPING, PreTrainedConfig

        model_type = self._values.get("model_type")
        if model_type not in CONFIG_MAPPING:
            raise _unknown(model_type, "text model")
        general = inspect.signature(PreTrainedConfig).parameters
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(CONFIG_MAPPING[model_type]).parameters.items()
            if name not in (*general, *(_GIVEN if self._sized else _GIVEN[:2]))
            and not name.startswith("_")
            and parameter.kind is not parameter.VAR_KEYWORD
        ]
        ours = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in {"attn_implementation": None, **HEAD_OPTIONS}.items()
        ]
        return inspect.Signature([*own, *ours])

    def __call__(
        self, head: Head, vocab_size: int, pad_id: int, num_labels: int, max_length: int, **options: Any
    ) -> nn.Module:
        """Return the model with fresh weights."""
        from huggingface_hub.errors import StrictDataclassError

        kind, auto, mapping = _classes(self._values.get("model_type"), head)
        arguments = {**self._values, **options, "num_labels": 2 if head == "question_answering" else num_labels}
        chosen = {name: arguments.pop(name, default) for name, default in HEAD_OPTIONS.items()}
        _check_attention(arguments.get("attn_implementation"))
        _check_sizes(options)
        if self._sized:
            arguments |= {"vocab_size": vocab_size, "pad_token_id": pad_id, "max_position_embeddings": max_length}
        try:
            config = kind.from_dict(arguments)
        except StrictDataclassError as error:
            raise ValueError(one_line(error)) from error
        if config.pad_token_id is None:
            config.pad_token_id = pad_id
        _check_vocabulary(config, vocab_size)
        model = build_with_own_head(head, config, **chosen)
        if model is None:
            without = {"add_pooling_layer": False} if head == "encoder" and takes_pooler(mapping[kind]) else {}
            model = auto.from_config(config, **without)
        _check_positions(model, max_length)
        return model


def text_model_elsewhere(name: str) -> TransformersTextModel | None:
    """Return the model of a folder that `save_pretrained` wrote, or of a hub name; None: it is neither.

    Raises:
        ConfigError: the folder has no configuration, or the hub's cannot be had.
    """
    found = config_elsewhere(name)
    return None if found is None else TransformersTextModel(found[0], published=found[1])


def _classes(model_type: Any, head: Head) -> tuple[Any, Any, Any]:
    """Return the class of the configuration, the class that builds from it, and configuration -> class of model."""
    import transformers
    from transformers import CONFIG_MAPPING

    auto, mapping, what = {
        "sequence_classification": (
            transformers.AutoModelForSequenceClassification,
            transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
            "text classifier",
        ),
        "question_answering": (
            transformers.AutoModelForQuestionAnswering,
            transformers.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
            "model that finds spans",
        ),
        "encoder": (transformers.AutoModel, transformers.MODEL_MAPPING, "text encoder"),
    }[head]
    if model_type not in CONFIG_MAPPING or CONFIG_MAPPING[model_type] not in mapping:
        raise _unknown(model_type, what)
    return CONFIG_MAPPING[model_type], auto, mapping


def _check_sizes(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a size that transformers would take, and compute nothing or fail with in the first step."""
    for name, value in options.items():
        if isinstance(value, int) and value < 1 and (name.startswith("num_") or name.endswith("_size")):
            raise ValueError(f"{name} is {value}")


def _check_attention(implementation: Any) -> None:
    if implementation not in (None, *_ATTENTION):
        raise ConfigError(
            f"is {implementation!r}",
            where="model.options.attn_implementation",
            fix="Set it to sdpa or eager, or leave it out.",
        )


def _unknown(model_type: Any, what: str) -> ConfigError:
    return ConfigError(
        f"transformers has no {what} of type {model_type!r}",
        where="model.architecture",
        fix="Name another model, or update transformers.",
    )


def _check_vocabulary(config: Any, vocab_size: int) -> None:
    known = getattr(config, "vocab_size", None)
    if known is None:
        raise ConfigError(
            f"a {config.model_type} has no vocabulary: it is no text model",
            where="model.architecture",
            fix="Name another model.",
        )
    if known < vocab_size:
        raise ConfigError(
            f"the tokenizer has {vocab_size} tokens, the model {known}",
            where="model.tokenizer",
            fix="Name the tokenizer that the model was trained with: most often its own folder.",
        )


def _check_positions(model: Any, max_length: int) -> None:
    """Raise ConfigError where a text may be longer than a model has positions."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return
    positions = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if isinstance(positions, nn.Embedding) and positions.padding_idx is not None:
        limit -= positions.padding_idx + 1  # RoBERTa counts from behind its padding token
    if max_length > limit:
        raise ConfigError(
            f"is {max_length}, but the model reads {limit} tokens at most",
            where="data.max_length",
            fix=f"Set it to {limit} or less.",
        )


_MODELS: dict[str, dict[str, Any]] = {
    "bert_tiny": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512},
    "bert_mini": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
}

for _name, _values in _MODELS.items():
    register_text_model(_name)(TransformersTextModel({"model_type": "bert", **_values}, sized=True))
