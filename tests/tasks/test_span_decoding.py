"""Losses and best spans from the scores of tokens: held against transformers, and against every span."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.tasks.span_decoding import best_spans, span_losses

B, W, L = 3, 2, 7


def batch_of(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Return windows of a [CLS], a question of one token, a context of 0 to 4 tokens and filling."""
    inside = torch.zeros(B, W, L, dtype=torch.bool)
    for row, window in itertools.product(range(B), range(W)):
        inside[row, window, 2 : 2 + int(torch.randint(0, 5, (), generator=generator))] = True
    windows = torch.tensor([[True, True], [True, False], [True, True]])
    inside &= windows.unsqueeze(-1)
    return {
        "inside": inside,
        "windows": windows,
        "targets": torch.zeros(B, W, 2, dtype=torch.int64),
        "rows": torch.arange(B) + 10,
    }


def scores_of(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(B, W, L, generator=generator), torch.randn(B, W, L, generator=generator)


def best_by_hand(starts: Any, ends: Any, batch: Any, row: int, longest: int, threshold: float) -> tuple[int, int, int]:
    """Return window, first and last token of the answer of a row, as SQuAD 2.0 chooses it."""
    windows = [window for window in range(W) if batch["windows"][row, window]]
    spans = {
        (window, first, last): starts[row, window, first] + ends[row, window, last]
        for window in windows
        for first, last in itertools.product(range(L), range(L))
        if first <= last < first + longest and batch["inside"][row, window, [first, last]].all()
    }
    null = min(starts[row, window, 0] + ends[row, window, 0] for window in windows)
    best = max(spans, key=lambda span: spans[span], default=None)
    return best if best is not None and null - spans[best] <= threshold else (-1, -1, -1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), longest=st.integers(1, 9), threshold=st.sampled_from([-1.0, 0.0, 1.5]))
def test_the_best_span_is_that_of_all_spans(seed: int, longest: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = batch_of(generator)
    starts, ends = scores_of(generator)
    found = best_spans(starts, ends, batch, max_answer_length=longest, null_threshold=threshold)
    assert found["rows"].tolist() == [10, 11, 12]
    for row in range(B):
        place = tuple(int(found[name][row]) for name in ("window", "first", "last"))
        assert place == best_by_hand(starts, ends, batch, row, longest, threshold)
    assert ((found["score"] > 0) & (found["score"] <= 1)).all()


def test_the_score_is_the_probability_of_the_answer_in_its_window() -> None:
    generator = torch.Generator().manual_seed(4)
    batch = batch_of(generator)
    starts, ends = scores_of(generator)
    found = best_spans(starts, ends, batch, max_answer_length=9, null_threshold=1.0)
    for row in range(B):
        window, first, last = (int(found[name][row]) for name in ("window", "first", "last"))
        if window < 0:
            continue
        allowed = [0, *batch["inside"][row, window].nonzero()[:, 0].tolist()]
        share = (starts[row, window, allowed].softmax(0) @ (torch.tensor(allowed) == first).float()) * (
            ends[row, window, allowed].softmax(0) @ (torch.tensor(allowed) == last).float()
        )
        torch.testing.assert_close(found["score"][row], share)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_loss_is_the_mean_over_windows_of_cross_entropies_over_cls_and_context(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    batch = batch_of(generator)
    batch["inside"][:, :, 2:4] = batch["windows"].unsqueeze(-1)
    batch["targets"][0, 1] = torch.tensor([2, 3])
    batch["targets"][2, 0] = torch.tensor([3, 3])
    starts, ends = scores_of(generator)
    found = span_losses(starts, ends, batch, smoothing)
    for row in range(B):
        values = []
        for window in [window for window in range(W) if batch["windows"][row, window]]:
            allowed = [0, *batch["inside"][row, window].nonzero()[:, 0].tolist()]
            for scores, side in ((starts, 0), (ends, 1)):
                target = torch.tensor(allowed.index(int(batch["targets"][row, window, side])))
                values.append(F.cross_entropy(scores[row, window, allowed], target, label_smoothing=smoothing))
        torch.testing.assert_close(found[row], torch.stack(values).mean())


def test_with_one_window_and_nothing_masked_it_is_the_loss_of_transformers() -> None:
    from transformers import BertConfig, BertForQuestionAnswering

    torch.manual_seed(0)
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = BertForQuestionAnswering(config).eval()
    ids, targets = torch.randint(1, 30, (4, 9)), torch.randint(1, 9, (4, 2)).sort(dim=1).values
    theirs = model(ids, start_positions=targets[:, 0], end_positions=targets[:, 1])
    batch = {
        "inside": torch.ones(4, 1, 9, dtype=torch.bool),
        "windows": torch.ones(4, 1, dtype=torch.bool),
        "targets": targets[:, None],
        "rows": torch.arange(4),
    }
    ours = span_losses(theirs.start_logits[:, None], theirs.end_logits[:, None], batch)
    torch.testing.assert_close(ours.mean(), theirs.loss)


def test_half_precision_scores_give_float_losses_and_scores() -> None:
    generator = torch.Generator().manual_seed(2)
    batch = batch_of(generator)
    starts, ends = (scores.bfloat16() for scores in scores_of(generator))
    assert span_losses(starts, ends, batch).dtype == torch.float32
    assert best_spans(starts, ends, batch, max_answer_length=3, null_threshold=0.0)["score"].dtype == torch.float32


def test_a_row_without_context_has_no_answer() -> None:
    batch = batch_of(torch.Generator().manual_seed(0))
    batch["inside"][:] = False
    starts, ends = torch.zeros(B, W, L), torch.zeros(B, W, L)
    found = best_spans(starts, ends, batch, max_answer_length=3, null_threshold=100.0)
    assert (found["window"] == -1).all()
    assert found["score"].tolist() == [1.0] * B
