"""Text models under `dp`, in each mode: the sum of clipped gradients against one example at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from per_example import clipped_sum_by_hand, cross_entropies, relative_error
from torch import Tensor, nn

from mltrain.models.freezing import freeze
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.models.text_models import build_text_model, text_inputs
from mltrain.privacy.clipping import ClippedGradients

SMALL: dict[str, dict[str, Any]] = {
    "bert_tiny": {"hidden_size": 24, "intermediate_size": 40},
    "bert_mini": {"hidden_size": 24, "intermediate_size": 40},
    "cnn_text": {"width": 12, "filters": 10},
}


class OfIds(nn.Module):
    """Reads token ids (B, L) alone: 0 is what fills."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.inner = build_text_model(
            name, "sequence_classification", vocab_size=60, pad_id=0, num_labels=3, max_length=24, options=options
        )

    def forward(self, ids: Tensor) -> Tensor:
        batch = {"input_ids": ids, "attention_mask": (ids != 0).long()}
        logits: Tensor = self.inner(**text_inputs(self.inner, batch)).logits
        return logits


def texts(count: int) -> Tensor:
    """Texts of several lengths, a word that stands in one of them several times among them."""
    ids = torch.randint(1, 60, (count, 20))
    ids[:, 1:4] = ids[:, :1]
    for row in range(1, count):
        ids[row, 20 - 3 * row :] = 0
    return ids


def model_of(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(1)
    model = OfIds(name, options)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def assert_exact(model: nn.Module, mode: Any) -> None:
    ids, labels = texts(4), torch.tensor([0, 0, 1, 0])
    bound = float(clipped_sum_by_hand(model, ids, labels, 1.0)[1].median())
    clipped = ClippedGradients(model, bound, mode)
    clipped.add(cross_entropies(model, ids, labels))
    found = [total.clone() for total in clipped.sums]
    clipped.close()
    by_hand, norms = clipped_sum_by_hand(model, ids, labels, bound)
    assert float(norms.min()) < bound < float(norms.max()), "some are clipped, and some are not"
    assert relative_error(found, by_hand) < 1e-6


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
@pytest.mark.parametrize("name", SMALL)
def test_the_clipped_sum_is_that_of_single_texts(name: str, mode: Any) -> None:
    model = model_of(name, SMALL[name])
    adapt_for_privacy(model)
    assert_exact(model, mode)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_the_head_alone(mode: Any) -> None:
    model = model_of("bert_tiny", SMALL["bert_tiny"])
    freeze(model, "backbone")
    adapt_for_privacy(model.train())
    assert_exact(model, mode)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["hooks", "ghost"])
@pytest.mark.parametrize("name", SMALL)
def test_in_full_size(name: str, mode: Any) -> None:
    model = model_of(name, {})
    adapt_for_privacy(model)
    assert_exact(model, mode)
