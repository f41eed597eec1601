"""Classifiers on the mean over a text's tokens: equal to a mean by hand, whatever the padding, of several families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.models.structure import head_names
from mltrain.models.text_models import build_text_model, text_config, text_inputs
from mltrain.models.weight_loading import load_weights
from mltrain.models.weights import find_weights
from mltrain.privacy.clipping import ClippedGradients

TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 1}
DISTILLED = {"dim": 16, "n_heads": 2, "hidden_dim": 24, "n_layers": 1}
SHAPE = {"vocab_size": 40, "pad_id": 0, "num_labels": 3, "max_length": 12}
FAMILIES = {"bert": TINY, "roberta": TINY, "distilbert": DISTILLED, "electra": {**TINY, "embedding_size": 16}}


def build(family: str = "bert", head: Any = "sequence_classification", pooling: str = "mean") -> nn.Module:
    torch.manual_seed(0)
    config = {
        "model_type": family,
        "vocab_size": 40,
        "max_position_embeddings": 20,
        "pad_token_id": 0,
        "pooling": pooling,
    }
    return build_text_model("x", head, **SHAPE, options={}, config={**config, **FAMILIES[family]}).eval()


def batch(*lengths: int, width: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(lengths))
    ids = torch.randint(5, 40, (len(lengths), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_of_the_mean_over_a_texts_own_tokens(family: str) -> None:
    model: Any = build(family)
    assert head_names(model) == ("classifier",)
    words = batch(9, 4, 1)
    logits = model(**text_inputs(model, words)).logits
    for row, length in enumerate((9, 4, 1)):
        alone = {name: values[row : row + 1, :length] for name, values in words.items()}
        states = model.base_model(**text_inputs(model, alone)).last_hidden_state
        torch.testing.assert_close(logits[row], model.classifier(states[0].mean(0)), rtol=1e-4, atol=1e-5)


def test_a_configuration_builds_it_again() -> None:
    model = build()
    again = build_text_model("x", "sequence_classification", **SHAPE, options={}, config=text_config(model))
    assert type(again) is type(model)
    again.load_state_dict(model.state_dict())
    words = batch(7, 3)
    assert torch.equal(again.eval()(**text_inputs(again, words)).logits, model(**text_inputs(model, words)).logits)


def test_weights_of_the_encoder_fit_and_the_head_alone_is_new(tmp_path: Any) -> None:
    encoder: Any = build(head="encoder", pooling="own")
    encoder.save_pretrained(tmp_path)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, find_weights(str(tmp_path), "x"))
    published = load_file(tmp_path / "model.safetensors")
    taken = {
        name.removeprefix("bert."): value for name, value in model.state_dict().items() if name.startswith("bert.")
    }
    assert taken.keys() == published.keys()
    assert all(torch.equal(value, published[name]) for name, value in taken.items())


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_gradients_of_examples_add_up(mode: Any) -> None:
    model = build().double()
    words = batch(9, 4, 2, 6)
    clipped = ClippedGradients(model, 1e9, mode)
    clipped.add(model(**text_inputs(model, words)).logits.square().sum(1))
    sums = [total.clone() for total in clipped.sums]
    clipped.close()
    expected = torch.autograd.grad(
        model(**text_inputs(model, words)).logits.square().sum(), list(model.parameters()), allow_unused=True
    )
    for found, gradient in zip(sums, expected, strict=True):
        torch.testing.assert_close(found, torch.zeros_like(found) if gradient is None else gradient)


@pytest.mark.parametrize(
    ("head", "pooling", "told"),
    [
        ("sequence_classification", "max", r"model\.options\.pooling: is 'max'\. Set it to mean, or to own"),
        ("question_answering", "mean", r"model\.options\.pooling: is of classifiers"),
    ],
)
def test_what_cannot_be_pooled_is_told(head: Any, pooling: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(head=head, pooling=pooling)
