"""Text models that classify a text and find a span in it, in one forward pass: on one encoder, or on two."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mltrain.models.structure import head_names
from mltrain.models.text_models import Head, hidden_size, text_inputs

__all__ = ["JointOutput", "LogVariances", "SharedEncoder", "TwoEncoders", "build_joint_model"]


class JointOutput(NamedTuple):
    """What a joint model makes of N texts.

    logits: (N, classes).
    start_logits, end_logits: of each token as the first and as the last of the span, (N, L).
    log_variances: (N, 2), of both tasks, alike for all texts; zeros where they are not learned.
    """

    logits: Tensor
    start_logits: Tensor
    end_logits: Tensor
    log_variances: Tensor


class LogVariances(nn.Module):
    """The logarithm of the variance of each of two tasks (Kendall et al. 2018), learned from 0 on.

    A layer of its own, which gives them once for each text, so that the gradient of each text can be told apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(2))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the values for N texts, (N, 2)."""
        return self.values.expand(len(input_ids), 2)


class SharedEncoder(nn.Module):
    """One encoder with two heads: a linear layer on each token, and one on the mean and the maximum over all tokens.

    Args:
        encoder: of `build_text_model` with the head "encoder".
        num_labels: number of classes.
        dropout: share of what the heads see that is dropped in training.
        learned_weights: the model learns log-variances.
    """

    head_names: tuple[str, ...]

    def __init__(self, encoder: nn.Module, num_labels: int, *, dropout: float, learned_weights: bool) -> None:
        super().__init__()
        size = hidden_size(encoder)
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * size, num_labels)
        self.spans = nn.Linear(size, 2)
        self.log_variances = LogVariances() if learned_weights else None
        self.head_names = ("classifier", "spans", *_learned(learned_weights))
        for layer in (self.classifier, self.spans):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> JointOutput:
        """Return the scores of both tasks.

        Args:
            input_ids, attention_mask, token_type_ids: (N, L); each text has a token at least.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        hidden = self.encoder(**text_inputs(self.encoder, batch)).last_hidden_state
        starts, ends = self.spans(self.dropout(hidden)).unbind(dim=-1)
        return JointOutput(
            self.classifier(self.dropout(_pooled(hidden, attention_mask))),
            starts,
            ends,
            _log_variances(self.log_variances, input_ids),
        )


class TwoEncoders(nn.Module):
    """A text classifier and a model of spans side by side.

    Args:
        classification: of `build_text_model` with the head "sequence_classification".
        span: with the head "question_answering".
        learned_weights: the model learns log-variances.
    """

    head_names: tuple[str, ...]

    def __init__(self, classification: nn.Module, span: nn.Module, *, learned_weights: bool) -> None:
        super().__init__()
        self.classification, self.span = classification, span
        self.log_variances = LogVariances() if learned_weights else None
        own = [
            f"{name}.{head}" for name, part in (("classification", classification), ("span", span))
            for head in head_names(part)
        ]  # fmt: skip
        self.head_names = (*own, *_learned(learned_weights))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> JointOutput:
        """Return the scores of both tasks: see `SharedEncoder.forward`."""
        batch = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        logits = self.classification(**text_inputs(self.classification, batch)).logits
        found = self.span(**text_inputs(self.span, batch))
        return JointOutput(logits, found.start_logits, found.end_logits, _log_variances(self.log_variances, input_ids))


def build_joint_model(
    build: Callable[[Head], nn.Module],
    *,
    num_labels: int,
    shared_encoder: bool,
    head_dropout: float,
    learned_weights: bool,
) -> nn.Module:
    """Return a model of both tasks.

    Args:
        build: gives a text model with a head, or an encoder.
        num_labels: number of classes.
        shared_encoder: one encoder for both; else two models side by side.
        head_dropout: before the heads on a shared encoder.
        learned_weights: the model learns the weights of the losses.
    """
    if shared_encoder:
        return SharedEncoder(build("encoder"), num_labels, dropout=head_dropout, learned_weights=learned_weights)
    return TwoEncoders(build("sequence_classification"), build("question_answering"), learned_weights=learned_weights)


def _learned(learned_weights: bool) -> tuple[str, ...]:
    return ("log_variances",) if learned_weights else ()


def _log_variances(layer: LogVariances | None, input_ids: Tensor) -> Tensor:
    if layer is None:
        return torch.zeros(len(input_ids), 2, device=input_ids.device)
    values: Tensor = layer(input_ids)
    return values


def _pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean and the maximum over the tokens of each text, (N, 2 D)."""
    there = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * there).sum(dim=1) / there.sum(dim=1)
    highest = hidden.masked_fill(there == 0, torch.finfo(hidden.dtype).min).amax(dim=1)
    return torch.cat([mean, highest], dim=-1)
