"""Heads of our own on transformers' encoders: on the mean over the tokens of a text, or on several layers' outputs.

Sentence-BERT (Reimers and Gurevych 2019) takes the mean, and encoders that were trained like it are put to better use
so: the output at the first token, which transformers' own classifiers take, says little of the text before they are
fine-tuned. BERT (Devlin et al. 2019, section 5.3) puts the outputs of several layers side by side where the encoder is
not trained: what a linear layer needs is often in a lower one, and no longer in the last.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.models.text_models import Head

__all__ = ["HEAD_OPTIONS", "build_with_own_head", "takes_pooler"]

HEAD_OPTIONS = {"pooling": "own", "head_layers": "last"}
"""Options with their defaults, which stand for transformers' own heads."""

_FIX_LAYERS = "Set it to last, to all, or to a list of numbers"


def takes_pooler(encoder: type[Any]) -> bool:
    """Return whether a class of encoders may have a pooler: one that nothing stands on would have no gradient."""
    return "add_pooling_layer" in inspect.signature(encoder.__init__).parameters


def build_with_own_head(head: Head, config: Any, pooling: Any, head_layers: Any) -> nn.Module | None:
    """Return the model of a configuration with a head of ours, and fresh weights; None: transformers' own is asked for.

    The configuration tells of it afterwards, so that a package can build it again.

    Args:
        head: what it ends with.
        config: of transformers.
        pooling: "own" or, for classifiers, "mean".
        head_layers: what the head reads: "last", "all", or numbers of layers, of which 0 is the embeddings.

    Raises:
        ConfigError: another value, or one that this head or encoder does not take.
    """
    from transformers import MODEL_MAPPING

    _check_pooling(pooling, head)
    layers = _layers(head_layers, config)
    if pooling == "own" and layers is None:
        return None
    if pooling == "own" and head == "sequence_classification":
        raise ConfigError(
            "is for heads that read the outputs themselves, and the classifier's own reads one token of the last layer",
            where="model.options.head_layers",
            fix="Set model.options.pooling to mean as well.",
        )
    encoder = MODEL_MAPPING[type(config)]
    if not isinstance(encoder, type):
        raise ConfigError(
            f"transformers has several encoders of type {config.model_type}, and heads of ours stand on none of them",
            where="model.options",
            fix=f"Leave out {' and '.join(HEAD_OPTIONS)}.",
        )
    config.pooling, config.head_layers = pooling, "last" if layers is None else list(layers)
    model: nn.Module = _classes(encoder)[head](config)
    return model


@functools.cache
def _classes(encoder: type[Any]) -> dict[Head, type[Any]]:
    """Return the classes of models on a class of encoders, of which they have the names of weights.

    Their forward takes what the encoder's takes, and gives what the head has: see `text_models.Head`.
    """
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import (
        BaseModelOutput,
        QuestionAnsweringModelOutput,
        SequenceClassifierOutput,
    )

    family: Any = next(kind for kind in encoder.__mro__[1:] if issubclass(kind, PreTrainedModel))

    class OnEncoder(family):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            base = encoder(config, **({"add_pooling_layer": False} if takes_pooler(encoder) else {}))
            setattr(self, self.base_model_prefix, base)
            self.layers = None if config.head_layers == "last" else tuple(config.head_layers)
            self.hidden_size = config.hidden_size * (1 if self.layers is None else len(self.layers))
            self.add_head(config)
            self.post_init()

        def add_head(self, config: Any) -> None:
            """Add the layers of the head."""

        def output(self, states: Tensor, attention_mask: Tensor) -> Any:
            """Return what the head makes of what it reads of each token, (B, L, hidden size)."""
            return BaseModelOutput(states)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, **further: Any) -> Any:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, **further}
            encoded = self.base_model(**inputs, output_hidden_states=self.layers is not None)
            if self.layers is None:
                return self.output(encoded.last_hidden_state, attention_mask)
            return self.output(torch.cat([encoded.hidden_states[n] for n in self.layers], dim=-1), attention_mask)

        forward.__signature__ = inspect.signature(encoder.forward)  # type: ignore[attr-defined]

    class MeanPooledClassifier(OnEncoder):
        def add_head(self, config: Any) -> None:
            self.dropout = nn.Dropout(_dropout_of(config))
            self.classifier = nn.Linear(self.hidden_size, config.num_labels)

        def output(self, states: Tensor, attention_mask: Tensor) -> Any:
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1)
            return SequenceClassifierOutput(logits=self.classifier(self.dropout(mean)))

    class SpanFinder(OnEncoder):
        def add_head(self, config: Any) -> None:
            self.qa_outputs = nn.Linear(self.hidden_size, 2)

        def output(self, states: Tensor, attention_mask: Tensor) -> Any:
            starts, ends = self.qa_outputs(states).unbind(dim=-1)
            return QuestionAnsweringModelOutput(start_logits=starts, end_logits=ends)

    return {"encoder": OnEncoder, "sequence_classification": MeanPooledClassifier, "question_answering": SpanFinder}


def _check_pooling(pooling: Any, head: Head) -> None:
    where = "model.options.pooling"
    if pooling not in ("own", "mean"):
        raise ConfigError(f"is {pooling!r}", where=where, fix="Set it to mean, or to own: the model's own.")
    if pooling == "mean" and head != "sequence_classification":
        raise ConfigError("is of classifiers, and this model is none", where=where, fix="Leave it out.")


def _layers(asked: Any, config: Any) -> tuple[int, ...] | None:
    """Return the numbers of the layers; None for the last, as it is."""
    where = "model.options.head_layers"
    if asked == "last":
        return None
    count = getattr(config, "num_hidden_layers", None)
    if getattr(config, "is_encoder_decoder", False) or not isinstance(count, int):
        raise ConfigError(
            f"a {config.model_type} does not give the outputs of all its layers", where=where, fix="Leave it out."
        )
    if asked == "all":
        return tuple(range(count + 1))
    listed = isinstance(asked, list | tuple) and all(type(layer) is int for layer in asked)
    if not listed or not asked or len(set(asked)) < len(asked):
        raise ConfigError(f"is {asked!r}", where=where, fix=f"{_FIX_LAYERS}, of which 0 is the embeddings.")
    if not all(0 <= layer <= count for layer in asked):
        raise ConfigError(
            f"is {list(asked)}, and the model has 0 (the embeddings) to {count}",
            where=where,
            fix=f"{_FIX_LAYERS} of these.",
        )
    return tuple(asked)


def _dropout_of(config: Any) -> float:
    names = ("classifier_dropout", "seq_classif_dropout", "hidden_dropout_prob")
    values = (getattr(config, name, None) for name in names)
    return float(next((value for value in values if value is not None), 0.0))
