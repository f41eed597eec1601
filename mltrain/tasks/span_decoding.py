"""From the scores of tokens to losses and spans: one of each for a row, over all its windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltrain.models.text_models import text_inputs
from mltrain.models.windowed import over_windows

__all__ = ["best_spans", "span_losses", "token_scores"]

_LOWEST = torch.finfo(torch.float32).min


def token_scores(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the scores of each token as the first and as the last of the answer, (B, W, L), of a model of spans."""
    found = over_windows(
        model, batch, lambda part, inputs: part(**text_inputs(part, inputs)), ("start_logits", "end_logits")
    )
    return found["start_logits"], found["end_logits"]


def span_losses(starts: Tensor, ends: Tensor, batch: Mapping[str, Tensor], label_smoothing: float = 0.0) -> Tensor:
    """Return the loss of each row, (B,): the mean over its windows.

    That of a window is the mean of two cross-entropies, of the first and of the last token of the answer, among the
    tokens of the context and [CLS]; [CLS] is right where the window does not hold the answer (Devlin et al. 2019,
    section 4.3). A row counts once, however many windows it has.

    Args:
        starts, ends: scores of each token as the first and as the last one, (B, W, L).
        batch: of `collate_windows`.
        label_smoothing: share of the target that is spread over all these tokens.
    """
    targets, windows = batch["targets"], batch["windows"]
    both = _entropy(starts, targets[..., 0], batch, label_smoothing) + _entropy(
        ends, targets[..., 1], batch, label_smoothing
    )
    return torch.where(windows, both / 2, 0.0).sum(dim=1) / windows.sum(dim=1)


def best_spans(
    starts: Tensor, ends: Tensor, batch: Mapping[str, Tensor], *, max_answer_length: int, null_threshold: float
) -> dict[str, Any]:
    """Return the answer of each row: the best span over all its windows, or none, as SQuAD 2.0 chooses it.

    The score of a span is the sum of the scores of its first and last token; that of no answer is the one of [CLS]
    twice, the least over the windows. There is no answer where the latter exceeds the former by more than the
    threshold (Devlin et al. 2019, section 4.3).

    Args:
        starts, ends: scores of each token, (B, W, L).
        batch: of `collate_windows`.
        max_answer_length: most tokens of a span.
        null_threshold: in units of scores; more gives more answers.

    Returns:
        Tensors (B,): `rows`, numbers of the rows; `window`, `first` and `last` token of the answer in it, -1 all where
        there is none; `score`, the probability of this answer in its window, float32.
    """
    starts, ends = starts.detach().float(), ends.detach().float()
    inside, length = batch["inside"], starts.shape[-1]
    # Each start with each of the ends that follow it within the length: (B, W, L, K).
    reach = min(max_answer_length, length)
    follow = F.pad(ends.masked_fill(~inside, -torch.inf), (0, reach - 1), value=-torch.inf).unfold(-1, reach, 1)
    best_end, steps = follow.max(dim=-1)
    totals = (starts.masked_fill(~inside, -torch.inf) + best_end).flatten(1)
    best, place = totals.max(dim=1)
    nulls = (starts[..., 0] + ends[..., 0]).masked_fill(~batch["windows"], torch.inf)
    null, null_window = nulls.min(dim=1)
    answered = (best > -torch.inf) & (null - best <= null_threshold)
    window = torch.where(answered, place // length, null_window)
    first = torch.where(answered, place % length, 0)
    last = torch.where(answered, first + steps.flatten(1).gather(1, place[:, None])[:, 0], 0)
    log_share = sum(_log_shares(scores, batch, window, token) for scores, token in ((starts, first), (ends, last)))
    assert isinstance(log_share, Tensor)
    none = torch.full_like(window, -1)
    return {
        "rows": batch["rows"],
        "window": torch.where(answered, window, none),
        "first": torch.where(answered, first, none),
        "last": torch.where(answered, last, none),
        "score": log_share.exp(),
    }


def _masked(scores: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return scores in which only [CLS], the first token, and those of the context have a share."""
    allowed = batch["inside"].clone()
    allowed[..., 0] = True
    return scores.float().masked_fill(~allowed, _LOWEST)


def _entropy(scores: Tensor, targets: Tensor, batch: Mapping[str, Tensor], smoothing: float) -> Tensor:
    """Return the cross-entropy of each window, (B, W)."""
    shares = _masked(scores, batch).log_softmax(dim=-1)
    values = -shares.gather(-1, targets[..., None])[..., 0]
    if smoothing == 0:
        return values
    inside = batch["inside"]
    spread = -torch.where(inside, shares, 0.0).sum(dim=-1) - shares[..., 0]
    return (1 - smoothing) * values + smoothing * spread / (inside.sum(dim=-1) + 1)


def _log_shares(scores: Tensor, batch: Mapping[str, Tensor], window: Tensor, token: Tensor) -> Tensor:
    shares = _masked(scores, batch).log_softmax(dim=-1)
    rows = torch.arange(len(window), device=window.device)
    return shares[rows, window, token]
