"""Text models: padding that changes nothing, what their forward is given, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltrain.core.errors import ConfigError
from mltrain.models.text_models import (
    TEXT_MODELS,
    build_text_model,
    hidden_size,
    refuse_text_elsewhere,
    text_config,
    text_inputs,
)

SMALL: dict[str, dict[str, Any]] = {
    "bert_tiny": {"hidden_size": 16, "intermediate_size": 24},
    "bert_mini": {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    "cnn_text": {"width": 8, "filters": 6},
}
HEADS = ["sequence_classification", "question_answering", "encoder"]


def built(name: str, head: Any = "sequence_classification", **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    given = {"vocab_size": 50, "pad_id": 0, "num_labels": 3, "max_length": 16, "options": SMALL.get(name, {})}
    return build_text_model(name, head, **{**given, **changes}).eval()


def batch_of(lengths: list[int]) -> dict[str, Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    torch.manual_seed(1)
    return {"input_ids": torch.randint(1, 50, mask.shape) * mask, "attention_mask": mask}


def outputs(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(model(**text_inputs(model, batch)).items())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", SMALL)
def test_a_text_is_read_the_same_alone_and_filled_up(name: str, head: str) -> None:
    model = built(name, head)
    together = outputs(model, batch_of([9, 4, 1, 6]))
    for row, length in enumerate([9, 4, 1, 6]):
        batch = {key: value[row : row + 1, :length] for key, value in batch_of([9, 4, 1, 6]).items()}
        for key, alone in outputs(model, batch).items():
            among = together[key][row : row + 1]
            if head != "sequence_classification":
                among = among[:, :length]
            torch.testing.assert_close(among, alone, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "shapes"), [(HEADS[0], [(2, 3)]), (HEADS[1], [(2, 7), (2, 7)]), (HEADS[2], [(2, 7, None)])]
)
@pytest.mark.parametrize("name", SMALL)
def test_what_each_head_gives(name: str, head: str, shapes: list[tuple[Any, ...]]) -> None:
    model = built(name, head)
    found = list(outputs(model, batch_of([7, 3])).values())
    wanted = [tuple(hidden_size(model) if size is None else size for size in shape) for shape in shapes]
    assert [tuple(value.shape) for value in found] == wanted
    assert all(parameter.requires_grad for parameter in model.parameters())
    torch.cat([value.flatten() for value in found]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters()), "DDP waits for every gradient"


def test_cnn_text_is_kims_network() -> None:
    """Computed by hand: each window of words, the maximum over the text, a linear layer."""
    model: Any = built("cnn_text")
    batch = batch_of([6])
    words = model.embedding.weight[batch["input_ids"][0]]
    features = []
    for convolution in model.convolutions:
        (size,) = convolution.kernel_size
        padded = F.pad(words, (0, 0, (size - 1) // 2, size // 2))
        windows = torch.stack([padded[place : place + size].T for place in range(6)])
        values = torch.einsum("wdk,fdk->wf", windows, convolution.weight) + convolution.bias
        features.append(values.clamp(min=0).max(dim=0).values)
    expected = model.head(torch.cat(features))
    torch.testing.assert_close(outputs(model, batch)["logits"][0], expected)


@pytest.mark.parametrize("name", ["bert_tiny", "bert_mini"])
def test_berts_are_those_of_transformers(name: str) -> None:
    from transformers import BertForSequenceClassification

    model: Any = build_text_model(name, "sequence_classification", vocab_size=50, pad_id=0, max_length=16, options={})
    assert isinstance(model, BertForSequenceClassification)
    sizes = {"bert_tiny": (2, 128, 2), "bert_mini": (4, 256, 4)}
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == sizes[name]
    assert (config.vocab_size, config.max_position_embeddings) == (50, 16)


def test_positions_and_types_are_given_for_each_example() -> None:
    """Of one row for all there would be no gradient of each."""
    inputs = text_inputs(built("bert_tiny"), batch_of([5, 3]))
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert inputs["token_type_ids"].tolist() == [[0] * 5] * 2
    types = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
    given = text_inputs(built("bert_tiny"), {**batch_of([5, 3]), "token_type_ids": types})
    assert given["token_type_ids"] is types
    assert set(text_inputs(built("cnn_text"), batch_of([5, 3]))) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("name", ["module", "_orig_mod"], ids=["DDP, DeepSpeed", "torch.compile"])
def test_wrappers_are_seen_through(name: str) -> None:
    wrapped = nn.Module()
    wrapped.add_module(name, built("bert_tiny"))
    assert "position_ids" in text_inputs(wrapped, batch_of([5]))
    assert hidden_size(wrapped) == 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small encoders of other families, as `save_pretrained` leaves them."""
    from transformers import DistilBertConfig, DistilBertModel, ElectraConfig, ElectraModel, RobertaConfig, RobertaModel

    root = tmp_path_factory.mktemp("encoders")
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert_like = {**sizes, "intermediate_size": 24, "max_position_embeddings": 20}
    distil = DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=20)
    for name, model in (
        ("roberta", RobertaModel(RobertaConfig(**bert_like, pad_token_id=1))),
        ("electra", ElectraModel(ElectraConfig(**bert_like, embedding_size=16))),
        ("distilbert", DistilBertModel(distil)),
    ):
        model.save_pretrained(root / name)
    return {name: root / name for name in ("roberta", "electra", "distilbert")}


@pytest.mark.parametrize("name", ["roberta", "electra", "distilbert"])
def test_encoders_of_a_folder_read_a_text_the_same_in_any_batch(folders: dict[str, Path], name: str) -> None:
    pad = 1 if name == "roberta" else 0
    model = built(str(folders[name]), options={}, pad_id=pad)
    batch = batch_of([9, 4])
    batch["input_ids"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"].clamp(min=2), pad)
    together = outputs(model, batch)["logits"]
    alone = outputs(model, {key: value[1:, :4] for key, value in batch.items()})["logits"]
    torch.testing.assert_close(together[1:], alone, atol=2e-6, rtol=1e-5)
    assert ("position_ids" in text_inputs(model, batch)) == (name != "roberta")


def test_a_model_is_built_again_from_its_configuration(folders: dict[str, Path]) -> None:
    for model in (built(str(folders["roberta"]), options={}, pad_id=1), built("bert_tiny")):
        config = text_config(model)
        again = built("elsewhere/unknown", config=config, options={})
        assert {k: v.shape for k, v in again.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }
    assert text_config(built("cnn_text")) is None


def test_attention_is_computed_as_it_was_asked_for(folders: dict[str, Path]) -> None:
    for name in ("bert_tiny", str(folders["roberta"])):
        models = {}
        for implementation in ("sdpa", "eager"):
            torch.manual_seed(0)
            models[implementation] = built(name, options={"attn_implementation": implementation}, pad_id=1).eval()
            config = text_config(models[implementation])
            again: Any = built("elsewhere/unknown", config=config, options={})
            assert again.config._attn_implementation == implementation
        batch = {"input_ids": torch.arange(4, 12)[None], "attention_mask": torch.ones(1, 8, dtype=torch.int64)}
        found = [model(**text_inputs(model, batch)).logits for model in models.values()]
        torch.testing.assert_close(*found)


def test_attention_that_would_be_fetched_as_code_is_left(folders: dict[str, Path]) -> None:
    config = text_config(built("bert_tiny"))
    assert config is not None
    again: Any = built("elsewhere/unknown", config={**config, "attn_implementation": "owner/name"}, options={})
    assert again.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "bert_tyni"}, r"model.architecture: unknown text model 'bert_tyni'. Did you mean 'bert_tiny'"),
        (
            {"name": "cnn_text", "options": {"filter": 3}},
            r"model.options.filter: cnn_text has no .* Did you mean filters",
        ),
        ({"name": "cnn_text", "options": {"kernels": []}}, r"model.options: cnn_text cannot be built"),
        ({"name": "bert_tiny", "options": {"vocab_size": 9}}, r"model.options.vocab_size: bert_tiny has no option"),
        (
            {"name": "bert_tiny", "options": {"attn_implementation": "owner/name"}},
            r"model.options.attn_implementation: is 'owner/name'. Set it to sdpa or eager",
        ),
        ({"name": "bert_tiny", "options": {"hidden_size": 15}}, r"model.options: bert_tiny cannot be built"),
        (
            {"name": "bert_tiny", "options": {"hidden_act": "foo"}},
            r"model.options: bert_tiny cannot be built \(KeyError: 'foo'",
        ),
        ({"name": "bert_tiny", "options": {"type_vocab_size": 0}}, r"cannot be built \(type_vocab_size is 0\)"),
        ({"name": "bert_tiny", "options": {"num_hidden_layers": -1}}, r"cannot be built \(num_hidden_layers is -1\)"),
        ({"name": "roberta", "max_length": 19}, r"data.max_length: is 19, but the model reads 18 tokens at most"),
        ({"name": "electra", "vocab_size": 61}, r"model.tokenizer: the tokenizer has 61 tokens, the model 60"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.get("name")),
)
def test_what_cannot_be_built_is_told(folders: dict[str, Path], changes: dict[str, Any], told: str) -> None:
    name = changes.pop("name")
    options = changes.pop("options", {})
    with pytest.raises(ConfigError, match=told):
        built(str(folders.get(name, name)), options=options, **changes)


def test_a_model_of_images_is_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="transformers has no text classifier of type 'vit'"):
        built(str(tmp_path), options={})


def test_a_package_names_no_other_place() -> None:
    for name in TEXT_MODELS.names():
        refuse_text_elsewhere(name)
    with pytest.raises(ConfigError, match="none of the known text models"):
        refuse_text_elsewhere("owner/model")
