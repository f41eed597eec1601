"""Heads on the mean over a text's tokens and on several layers: equal to the same by hand, of several families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.models.joint_text import SharedEncoder
from mltrain.models.structure import head_names
from mltrain.models.text_models import build_text_model, hidden_size, text_config, text_inputs
from mltrain.models.weight_loading import load_weights
from mltrain.models.weights import find_weights
from mltrain.privacy.clipping import ClippedGradients

TINY = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_hidden_layers": 2}
DISTILLED = {"dim": 16, "n_heads": 2, "hidden_dim": 24, "n_layers": 2}
SHAPE = {"vocab_size": 40, "pad_id": 0, "num_labels": 3, "max_length": 12}
FAMILIES = {"bert": TINY, "roberta": TINY, "distilbert": DISTILLED, "electra": {**TINY, "embedding_size": 16}}


def build(
    family: str = "bert", head: Any = "sequence_classification", pooling: str = "mean", layers: Any = "last"
) -> nn.Module:
    torch.manual_seed(0)
    config = {
        "model_type": family,
        "vocab_size": 40,
        "max_position_embeddings": 20,
        "pad_token_id": 0,
        "pooling": pooling,
        "head_layers": layers,
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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_reads_the_outputs_of_several_layers(family: str) -> None:
    words = batch(9, 4, 1)
    encoder: Any = build(family, "encoder", "own", "all")
    states = encoder(**text_inputs(encoder, words)).last_hidden_state
    assert states.shape == (3, 9, hidden_size(encoder)) == (3, 9, 48)
    expected = encoder.base_model(**text_inputs(encoder, words), output_hidden_states=True)
    for part, layer in zip(states.chunk(3, dim=-1), expected.hidden_states, strict=True):
        assert torch.equal(part, layer)
    assert torch.equal(states.chunk(3, dim=-1)[2], expected.last_hidden_state)

    finder: Any = build(family, "question_answering", "own", [2, 0])
    assert head_names(finder) == ("qa_outputs",)
    outputs = finder.base_model(**text_inputs(finder, words), output_hidden_states=True).hidden_states
    scores = finder.qa_outputs(torch.cat([outputs[2], outputs[0]], dim=-1))
    found = finder(**text_inputs(finder, words))
    assert torch.equal(found.start_logits, scores[..., 0])
    assert torch.equal(found.end_logits, scores[..., 1])

    classifier: Any = build(family, layers="all")
    alone = {name: values[1:2, :4] for name, values in words.items()}
    outputs = classifier.base_model(**text_inputs(classifier, alone), output_hidden_states=True).hidden_states
    logits = classifier.classifier(torch.cat(outputs, dim=-1)[0].mean(0))
    torch.testing.assert_close(classifier(**text_inputs(classifier, words)).logits[1], logits, rtol=1e-4, atol=1e-5)


def test_a_shared_encoder_gives_both_heads_its_layers() -> None:
    model = SharedEncoder(build(head="encoder", pooling="own", layers=[0, 2]), 3, dropout=0.0, learned_weights=False)
    assert (model.spans.in_features, model.classifier.in_features) == (32, 64)
    words = batch(9, 4)
    output = model(**words, token_type_ids=torch.zeros_like(words["input_ids"]))
    assert output.start_logits.shape == (2, 9)


@pytest.mark.parametrize("layers", ["last", "all", [1]])
def test_a_configuration_builds_it_again(layers: Any) -> None:
    model = build(layers=layers)
    again = build_text_model("x", "sequence_classification", **SHAPE, options={}, config=text_config(model))
    assert type(again) is type(model)
    again.load_state_dict(model.state_dict())
    words = batch(7, 3)
    assert torch.equal(again.eval()(**text_inputs(again, words)).logits, model(**text_inputs(model, words)).logits)


@pytest.mark.parametrize(
    ("head", "pooling", "layers"),
    [
        ("sequence_classification", "mean", "last"),
        ("sequence_classification", "mean", "all"),
        ("question_answering", "own", "all"),
        ("encoder", "own", "all"),
    ],
)
def test_weights_of_the_encoder_fit_and_the_head_alone_is_new(
    head: Any, pooling: str, layers: Any, tmp_path: Any
) -> None:
    encoder: Any = build(head="encoder", pooling="own")
    encoder.save_pretrained(tmp_path)
    model = build(head=head, pooling=pooling, layers=layers)
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


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_gradients_of_examples_add_up(mode: Any, layers: Any) -> None:
    model = build(layers=layers).double()
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
    ("head", "pooling", "layers", "told"),
    [
        ("sequence_classification", "max", "last", r"model\.options\.pooling: is 'max'\. Set it to mean, or to own"),
        ("question_answering", "mean", "last", r"model\.options\.pooling: is of classifiers"),
        (
            "sequence_classification",
            "own",
            "all",
            r"model\.options\.head_layers: .* Set model\.options\.pooling to mean",
        ),
        (
            "question_answering",
            "own",
            [0, 3],
            r"head_layers: is \[0, 3\], and the model has 0 \(the embeddings\) to 2\.",
        ),
        ("question_answering", "own", [1, 1], r"head_layers: is \[1, 1\]\. Set it to last, to all, or to a list"),
        ("question_answering", "own", [], r"head_layers: is \[\]\."),
        ("question_answering", "own", [True], r"head_layers: is \[True\]\."),
        ("question_answering", "own", "first", r"head_layers: is 'first'\."),
    ],
)
def test_what_a_head_does_not_take_is_told(head: Any, pooling: str, layers: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(head=head, pooling=pooling, layers=layers)


def test_a_model_that_does_not_give_all_layers_is_told() -> None:
    config = {"model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 40}
    options = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0, "head_layers": "all"}
    with pytest.raises(ConfigError, match="a bart does not give the outputs of all its layers"):
        build_text_model("x", "question_answering", **SHAPE, options={}, config={**config, **options})


def test_a_type_of_several_encoders_is_told() -> None:
    config = {"model_type": "funnel", "vocab_size": 40, "d_model": 16, "block_sizes": [1, 1]}
    with pytest.raises(ConfigError, match=r"several encoders of type funnel.*Leave out pooling and head_layers"):
        build_text_model("x", "sequence_classification", **SHAPE, options={}, config={**config, "pooling": "mean"})


@pytest.mark.parametrize(
    ("pooling", "layers", "kept"), [("mean", [0, 2], True), ("mean", [2, 0], False), ("mean", [1, 2], False)]
)
def test_a_head_that_read_other_layers_is_drawn_anew(tmp_path: Any, pooling: str, layers: Any, kept: bool) -> None:
    build(layers=[0, 2]).save_pretrained(tmp_path)  # type: ignore[operator]
    model: Any = build(layers=layers)
    with torch.no_grad():
        model.classifier.weight.fill_(7.0)
    load_weights(model, find_weights(str(tmp_path), "x"))
    assert bool((model.classifier.weight == 7.0).all()) != kept


def test_a_head_on_the_first_token_is_no_head_on_the_mean(tmp_path: Any) -> None:
    own: Any = build(pooling="own")
    own.save_pretrained(tmp_path)
    model: Any = build()
    with torch.no_grad():
        model.classifier.weight.fill_(7.0)
    load_weights(model, find_weights(str(tmp_path), "x"))
    assert bool((model.classifier.weight == 7.0).all())
