"""Gradient checkpointing: the same gradient to the bit, dropout included, from a fraction of the memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from mltrain.core.errors import ConfigError
from mltrain.models.freezing import freeze
from mltrain.models.gradient_checkpointing import gradient_checkpointing, refuse_without_checkpointing
from mltrain.models.registry import IMAGE_MODELS, build_image_model

SHAPE = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
CAN = {"vit_base", "vit_small", "vit_tiny"}


def vit(layers: int = 3) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    drop = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    config = ViTConfig(**SHAPE, **drop, num_hidden_layers=layers, image_size=16, patch_size=4)
    return ViTForImageClassification(config), {"pixel_values": torch.randn(4, 3, 16, 16)}


def bert(layers: int = 3) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = BertConfig(**SHAPE, num_hidden_layers=layers, vocab_size=50, max_position_embeddings=20)
    words = torch.randint(0, 50, (4, 12))
    return BertForSequenceClassification(config), {"input_ids": words, "attention_mask": (words > 5).long()}


def gradients(model: nn.Module, inputs: dict[str, torch.Tensor], *, precision: str = "float32") -> tuple[Any, int]:
    """Return the gradients of a pass in training mode, and the bytes that the forward pass kept for the backward one.

    Parameters, which are there in any case, do not count.
    """
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[tuple[int, int], int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr(), tensor.nbytes] = tensor.nbytes
        return tensor

    model.zero_grad()
    model.train()
    torch.manual_seed(1)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        logits = model(**inputs).logits
    size = sum(kept.values())
    logits.float().square().sum().backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}, size


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("build", [vit, bert])
def test_gradients_are_the_same_bits_from_less_memory(build: Any, precision: str) -> None:
    model, inputs = build(6)
    plain, most = gradients(model, inputs, precision=precision)
    with gradient_checkpointing(model, wanted=True):
        again, least = gradients(model, inputs, precision=precision)
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert least < most / 5
    # Each further block then keeps what goes into it, and no more.
    deeper, inputs = build(7)
    with gradient_checkpointing(deeper, wanted=True):
        more = gradients(deeper, inputs, precision=precision)[1] - least
    rows = inputs[next(iter(inputs))].shape[0] * (17 if build is vit else 12)
    assert more == rows * SHAPE["hidden_size"] * 4


def test_the_model_is_left_as_it_came() -> None:
    model, inputs = bert()
    config = model.config.to_dict()
    with gradient_checkpointing(model, wanted=True):
        assert model.is_activation_checkpointing
        gradients(model, inputs)
        assert model.config.to_dict() == config
    assert not model.is_activation_checkpointing
    model.activation_checkpointing_enable()
    with gradient_checkpointing(model, wanted=True):
        pass
    assert model.is_activation_checkpointing  # the user's own wish


def test_frozen_blocks_keep_nothing() -> None:
    model, inputs = bert()
    freeze(model, "backbone")
    head = {"classifier.weight", "classifier.bias"}
    plain, size = gradients(model, inputs)
    with gradient_checkpointing(model, wanted=True):
        again, same = gradients(model, inputs)
    assert same == size
    assert [name for name, gradient in again.items() if gradient is not None] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert all(torch.equal(plain[name], again[name]) for name in head)


@pytest.mark.parametrize("name", sorted(IMAGE_MODELS.names()))
def test_those_that_cannot_are_refused_by_name(name: str) -> None:
    with torch.device("meta"):
        model = build_image_model(name, num_classes=2, channels=3, image_size=64, options={})
    if name in CAN:
        refuse_without_checkpointing(model)
        return
    with pytest.raises(ConfigError, match=rf"{type(model).__name__} has no gradient.*vit_tiny, vit_small, vit_base"):
        refuse_without_checkpointing(model)


@pytest.mark.parametrize(("trainer", "told"), [("standard", "Sequential has no"), ("dp", "dp watches each layer")])
def test_a_run_that_cannot_is_refused_before_it_begins(train_vectors: Any, trainer: str, told: str) -> None:
    settings = {"training.trainer_type": trainer, "training.dp": {"target_epsilon": 3.0}}
    with pytest.raises(ConfigError, match=rf"training\.gradient_checkpointing.*{told}"):
        train_vectors({**settings, "training.gradient_checkpointing": True})
