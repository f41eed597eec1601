"""Weights that are taken over: from folders and files, under old names, for other classes and sizes; and misfits."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaModel,
)

from mltrain.core.errors import ConfigError
from mltrain.core.files import file_sha256
from mltrain.core.logging import log
from mltrain.models.registry import build_image_model
from mltrain.models.weight_loading import load_weights, resized_positions
from mltrain.models.weights import find_weights

TINY = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "num_hidden_layers": 1}
SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2, "patch_size": 8}


def vit(classes: int = 2, size: int = 16, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return build_image_model("vit_tiny", num_classes=classes, channels=3, image_size=size, options={**SMALL, **options})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of 5 classes as transformers publishes one: its files have the names of its first versions."""
    folder = tmp_path_factory.mktemp("published") / "vit"
    vit(classes=5, seed=7).save_pretrained(folder)
    assert any(".attention.attention.query." in name for name in load_file(folder / "model.safetensors"))
    return folder


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    told: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    handler, level = Keep(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield told
    log.removeHandler(handler)
    log.setLevel(level)


def test_the_backbone_is_taken_and_the_new_head_is_of_the_seed_and_told(published: Path, lines: list[str]) -> None:
    model, fresh, source = vit(), vit().state_dict(), vit(classes=5, seed=7).state_dict()
    found = find_weights(str(published), "vit_tiny")
    load_weights(model, found)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh[name] if name.startswith("classifier.") else source[name]), name
    assert found.identity() == {"source": "vit", "sha256": file_sha256(published / "model.safetensors")}
    assert lines == [
        "Initial weights: vit.",
        "The head (classifier) is new: 2 classes instead of 5.",
    ]


def test_a_head_of_as_many_classes_is_taken(published: Path, lines: list[str]) -> None:
    model = vit(classes=5)
    load_weights(model, find_weights(str(published / "model.safetensors"), "vit_tiny"))
    source = vit(classes=5, seed=7).state_dict()
    assert all(torch.equal(tensor, source[name]) for name, tensor in model.state_dict().items())
    assert len(lines) == 1


def test_loading_draws_nothing(published: Path) -> None:
    model = vit()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_weights(model, find_weights(str(published), "vit_tiny"))
    assert torch.equal(torch.rand(3), expected)


def test_weights_in_several_files_are_read(published: Path, tmp_path: Path) -> None:
    model = vit(classes=5, seed=7)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    other = vit(classes=5)
    load_weights(other, find_weights(str(tmp_path), "vit_tiny"))
    assert torch.equal(other.vit.layers[1].mlp.fc1.weight, model.vit.layers[1].mlp.fc1.weight)


def test_plain_modules_take_theirs_by_name(tmp_path: Path, lines: list[str]) -> None:
    def build(classes: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build_image_model("simple_cnn", num_classes=classes, channels=3, image_size=16, options={"width": 4})

    source = build(3, seed=1)
    save_file(source.state_dict(), tmp_path / "cnn.safetensors")
    model = build(2, seed=2)
    load_weights(model, find_weights(str(tmp_path / "cnn.safetensors"), "simple_cnn"))
    state = source.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items() if name.startswith("features"))
    assert lines[-1] == "The head (head) is new: 2 classes instead of 3."


def test_positions_are_interpolated_as_transformers_does(published: Path) -> None:
    small, large = vit(classes=5, seed=7), vit(size=40)
    load_weights(large, find_weights(str(published), "vit_tiny"))
    embeddings = small.vit.embeddings
    theirs = embeddings.interpolate_pos_encoding(torch.zeros(1, 26, 32), 40, 40)
    torch.testing.assert_close(large.vit.embeddings.position_embeddings, theirs, rtol=1e-6, atol=1e-7)


def test_positions_that_are_no_square_are_not_guessed() -> None:
    assert resized_positions(torch.zeros(1, 1 + 7, 4), 1 + 9) is None
    assert resized_positions(torch.zeros(1, 2 + 9, 4), 2 + 16).shape == (1, 18, 4)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"hidden_size": 16}, r"have another shape \(vit\.embeddings\..+ is \[.+\], not \[.+\], .+, \.\.\.\)"),
        ({"num_hidden_layers": 3}, r"16 are missing \(vit\.layers\.2\..+\)"),
        ({"num_hidden_layers": 1}, r"16 are unknown \(.*vit\..*1\..+\)"),
    ],
)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_weights_of_another_network_are_refused(
    published: Path, device: str, options: dict[str, Any], told: str
) -> None:
    with torch.device(device):
        model = vit(**options)
        with pytest.raises(ConfigError, match=rf"the tensors of vit do not fit ViTForImageClassification: .*{told}"):
            load_weights(model, find_weights(str(published), "vit_tiny"))


def bert(kind: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return kind(BertConfig(**TINY, vocab_size=9, max_position_embeddings=9))


def test_the_heads_of_pretraining_are_left_out(tmp_path: Path, lines: list[str]) -> None:
    """Published encoders mostly come with the heads they were pretrained with."""
    source = bert(BertForPreTraining, seed=3)
    source.save_pretrained(tmp_path / "bert")
    assert any(name.startswith("cls.") for name in load_file(tmp_path / "bert" / "model.safetensors"))
    model, fresh = bert(BertForSequenceClassification), bert(BertForSequenceClassification).state_dict()
    load_weights(model, find_weights(str(tmp_path / "bert"), "bert"))
    pretrained = source.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, (pretrained if name.startswith("bert.") else fresh)[name]), name
    assert lines == ["Initial weights: bert.", "The head (classifier) is new."]


def test_a_pooler_that_the_weights_lack_is_told(tmp_path: Path, lines: list[str]) -> None:
    bert(BertForQuestionAnswering, seed=3).save_pretrained(tmp_path / "bert")
    model = bert(BertForSequenceClassification)
    drawn = model.bert.pooler.dense.weight.clone()
    load_weights(model, find_weights(str(tmp_path / "bert"), "bert"))
    assert torch.equal(model.bert.pooler.dense.weight, drawn)
    assert lines[1:] == [
        "The head (classifier) is new.",
        "bert.pooler is new, drawn from the seed: these weights have none.",
    ]


def test_a_head_of_several_layers_may_be_new(tmp_path: Path, lines: list[str]) -> None:
    config = RobertaConfig(**TINY, vocab_size=9, max_position_embeddings=9)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "roberta")
    load_weights(RobertaForSequenceClassification(config), find_weights(str(tmp_path / "roberta"), "roberta"))
    assert lines == ["Initial weights: roberta.", "The head (classifier) is new."]


def test_more_layers_than_the_model_has_are_no_head(tmp_path: Path) -> None:
    """Of an encoder alone the names have no prefix, so that nothing tells a head from what is too much."""
    config = BertConfig(**{**TINY, "num_hidden_layers": 2}, vocab_size=9, max_position_embeddings=9)
    BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"16 are unknown \(encoder\.layer\.1\."):
        load_weights(bert(BertForSequenceClassification), find_weights(str(tmp_path / "bert"), "bert"))


def test_a_check_without_memory_loads_nothing(published: Path, lines: list[str]) -> None:
    with torch.device("meta"):
        model = vit(size=40)
        load_weights(model, find_weights(str(published), "vit_tiny"))
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert lines == []


def test_published_weights_without_a_network_are_told_with_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        find_weights("DEFAULT", "resnet18")
    assert str(caught.value) == (
        "model.weights: DEFAULT of resnet18 is microsoft/resnet-18, which is not on this machine and cannot be fetched "
        "(LocalEntryNotFoundError). Where there is a network run `hf download microsoft/resnet-18 --local-dir FOLDER`, "
        "then set model.weights: FOLDER."
    )


def test_published_weights_of_a_certain_revision_are_told_with_it() -> None:
    with pytest.raises(
        ConfigError, match=r"`hf download google/efficientnet-b0 --revision refs/pr/3 --local-dir FOLDER`"
    ):
        find_weights("DEFAULT", "efficientnet_b0")


def test_a_model_of_ours_has_no_published_weights() -> None:
    with pytest.raises(ConfigError, match=r"model\.weights: tiny_net has no published weights\. Set it to null"):
        find_weights("DEFAULT", "tiny_net")


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no model\.safetensors\. Save the model with save_pretrained"):
        find_weights(str(tmp_path), "resnet18")
    with pytest.raises(ConfigError, match=r"model\.weights: there is no nowhere\. Name a folder"):
        find_weights("nowhere", "resnet18")
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ConfigError, match=r"model\.safetensors: cannot be read"):
        load_weights(vit(), find_weights(str(tmp_path), "vit_tiny"))
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({}))
    with pytest.raises(ConfigError, match=r"model\.safetensors\.index\.json: cannot be read"):
        find_weights(str(tmp_path), "vit_tiny")
