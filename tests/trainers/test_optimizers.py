"""Optimizers: what their groups hold and at which rates, exact resume with several groups, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from runs import history
from torch import nn

from mltrain.config.training import OptimizerSection, SchedulerSection
from mltrain.core.errors import ConfigError
from mltrain.models.freezing import freeze
from mltrain.models.registry import build_image_model
from mltrain.trainers.optimizers import build_optimizer
from mltrain.trainers.schedules import Schedule

VIT = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "num_hidden_layers": 2, "patch_size": 8}


def model(name: str = "vit_tiny", **options: Any) -> nn.Module:
    given = options or (VIT if name.startswith("vit") else {})
    return build_image_model(name, num_classes=2, channels=3, image_size=32, options=given)


def settings(network: nn.Module, **section: Any) -> dict[str, tuple[float, float]]:
    """Return the learning rate and the weight decay of each parameter by name."""
    optimizer = build_optimizer(OptimizerSection(**section), network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_norms_biases_and_tokens_are_not_decayed() -> None:
    found = settings(model(), weight_decay=0.1)
    spared = {name for name, (_, decay) in found.items() if decay == 0.0}
    assert spared == {name for name in found if name.endswith((".bias", "cls_token")) or "layernorm" in name}
    assert {decay for name, (_, decay) in found.items() if name not in spared} == {0.1}


def test_the_response_norms_of_convnext_are_not_decayed() -> None:
    network = model("convnextv2_atto", depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8])
    found = settings(network, weight_decay=0.1)
    assert all((found[name][1] == 0.0) == (parameter.ndim == 1 or ".grn." in name)
               for name, parameter in network.named_parameters())  # fmt: skip


@pytest.mark.parametrize(
    ("section", "groups"),
    [
        ({"weight_decay": 0.1}, 2),
        ({}, 2),  # AdamW's own default of 0.01
        ({"weight_decay": 0.0}, 1),
        ({"name": "sgd"}, 1),
        ({"weight_decay": 0.1, "decay_norms_and_biases": True}, 1),
    ],
    ids=str,
)
def test_groups_are_made_for_a_decay_alone(section: dict[str, Any], groups: int) -> None:
    network = model()
    optimizer = build_optimizer(OptimizerSection(**section), network)
    assert len(optimizer.param_groups) == groups
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


def test_layers_below_the_head_learn_slower_by_a_factor_each() -> None:
    found = settings(model(), lr=0.1, layer_decay=0.5)
    assert found["classifier.weight"][0] == found["vit.layernorm.weight"][0] == 0.1
    assert found["vit.layers.1.mlp.fc1.weight"][0] == pytest.approx(0.05)
    assert found["vit.layers.0.mlp.fc1.bias"][0] == pytest.approx(0.025)
    assert found["vit.embeddings.position_embeddings"][0] == pytest.approx(0.0125)
    optimizer = build_optimizer(OptimizerSection(lr=0.1, layer_decay=0.5), model())
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "exponential"])
def test_groups_keep_their_proportions_down_to_the_lowest_rate(name: str) -> None:
    optimizer = build_optimizer(OptimizerSection(lr=0.1, layer_decay=0.5), model())
    shares = [group["lr"] / 0.1 for group in optimizer.param_groups]
    section = SchedulerSection(name=name, warmup_steps=2, min_lr=0.04, step_size=1)
    schedule = Schedule(section, optimizer, steps_per_epoch=3, num_epochs=4)
    for step in range(12):
        schedule.set(step)
        head = schedule.rate(0.1, step)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([head * share for share in shares])


def test_frozen_parameters_are_left_out() -> None:
    network = model()
    freeze(network, "backbone")
    assert settings(network).keys() == {"classifier.weight", "classifier.bias"}
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ConfigError, match="model: has no parameters to train"):
        build_optimizer(OptimizerSection(), network)


@pytest.mark.parametrize("key", ["lr", "weight_decay", "momentum", "betas", "eps", "fused"])
def test_an_option_that_has_a_key_of_its_own_is_refused(key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"optimizer\.options\.{key}: {key} has a key .* Set optimizer\.{key} instead"
    ):
        build_optimizer(OptimizerSection(options={key: 1}), nn.Linear(2, 2))


def test_one_step_of_groups_is_that_of_torch_with_its_own() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    theirs = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        build_optimizer(OptimizerSection(lr=0.1, weight_decay=0.3), ours),
        torch.optim.AdamW(
            [{"params": [theirs[0].weight, theirs[2].weight], "weight_decay": 0.3},
             {"params": [theirs[0].bias, *theirs[1].parameters(), theirs[2].bias], "weight_decay": 0.0}], lr=0.1
        ),
    ]  # fmt: skip
    pixels = torch.randn(5, 3)
    for network, optimizer in zip((ours, theirs), optimizers, strict=True):
        network(pixels).square().sum().backward()
        optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


GROUPS = {
    "optimizer.layer_decay": 0.5,
    "optimizer.weight_decay": 0.1,
    "scheduler.min_lr": 1e-4,
    "tracking.log_every_n_steps": 1,
    "training.ema.enabled": True,
    "checkpointing.every_n_steps": 3,
}


@pytest.mark.parametrize("step", [5, pytest.param(9, marks=pytest.mark.slow)])
def test_a_run_with_several_groups_stopped_and_resumed_equals_the_straight_one(train_vectors: Any, step: int) -> None:
    straight = train_vectors(GROUPS)
    stopped = train_vectors({**GROUPS, "callbacks": {"stop_at": {"step": step}}})
    assert stopped.summary["status"] == "interrupted"
    resumed = train_vectors(GROUPS, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)
    logged = [row["train/lr"] for row in history(straight.folder) if "train/lr" in row]
    assert logged[0] == 0.001, "the head's rate is logged, not that of the layers below"


@pytest.mark.parametrize(
    "change", [{"optimizer.layer_decay": 0.6}, {"optimizer.decay_norms_and_biases": True}], ids=str
)
def test_other_groups_are_refused_when_a_run_continues(train_vectors: Any, change: dict[str, Any]) -> None:
    stopped = train_vectors({**GROUPS, "callbacks": {"stop_at": {"step": 5}}})
    with pytest.raises(ConfigError, match=rf"this run has {next(iter(change))}"):
        train_vectors({**GROUPS, **change}, resume=stopped.folder)
