"""Losses that depend on the batch are found, whatever couples them; those of single examples pass, draws and all."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import VECTORS_PLUGIN
from image_commands import divided_images
from torch import Tensor, nn

from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError
from mltrain.core.plugins import load_plugins
from mltrain.models.freezing import freeze
from mltrain.privacy.coupling import refuse_coupled, refuse_coupled_task
from mltrain.tasks.base import TASKS, Losses, Task, task_config_class
from mltrain.tasks.own_module import OwnLoss, OwnParts

CPU = torch.device("cpu")
OWN = {"task": "own_loss", "data": {}, "model": {}}
Loss = Callable[[Tensor, Tensor], Tensor]


def image_task(tmp_path: Path, overrides: dict[str, Any] | None = None) -> Task:
    settings = {
        "task": "image_classification",
        "data": {"data_dir": str(divided_images(tmp_path)), "image_size": 8, "num_workers": 0},
        "model": {"architecture": "mlp"},
        "training": {"num_epochs": 1, "batch_size": 8},
    }
    return TASKS.get("image_classification")(check_config(settings, overrides or {}, task_config_class).config)


def images(task: Task, count: int = 6) -> dict[str, Tensor]:
    """Return a batch of both classes."""
    dataset = task.datasets()["train"]
    return task.collate([dataset.load(index * 7 % len(dataset), None) for index in range(count)])


def own_task(loss: Loss, model: nn.Module) -> Task:
    """Return the task of a script that has this loss and this module."""
    config = check_config(OWN, {}, task_config_class).config
    return OwnLoss(config, OwnParts(model, {}, loss=loss))


def points(count: int = 6) -> dict[str, Tensor]:
    inputs = torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
    return {"inputs": inputs, "labels": torch.tensor([0, 1, 2, 0, 2, 1])[:count]}


def network(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), *middle, nn.Tanh(), nn.Linear(8, 3))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)


def class_weighted_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, weight=torch.tensor([1.0, 2.0, 5.0])).expand(len(labels))


def class_weighted_shares(logits: Tensor, labels: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 2.0, 5.0])[labels]
    return cross_entropy(logits, labels) * weights / weights.sum()


def class_weighted(logits: Tensor, labels: Tensor) -> Tensor:
    """Weights that are constants are no coupling."""
    return cross_entropy(logits, labels) * torch.tensor([1.0, 2.0, 5.0])[labels]


def standardized(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy((logits - logits.mean(dim=0)) / logits.std(dim=0), labels)


def frequent_labels(logits: Tensor, labels: Tensor) -> Tensor:
    counts = torch.bincount(labels, minlength=3).float()
    return cross_entropy(logits, labels) / counts[labels]


def label_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits - 0.01 * labels.float().mean() * torch.arange(3), labels)


def contrastive(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits @ logits.T, torch.arange(len(labels)), reduction="none")


def neighbours(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels) + 0.1 * (logits - logits.roll(1, dims=0)).square().sum(dim=1)


def hardest_only(logits: Tensor, labels: Tensor) -> Tensor:
    losses = cross_entropy(logits, labels)
    return losses * (losses >= losses.median())


def expanded_mean(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels).mean().expand(len(labels))


def gradient_alone(logits: Tensor, labels: Tensor) -> Tensor:
    spread = logits.var(dim=0).sum()
    return cross_entropy(logits, labels) + spread - spread.detach()


def check(loss: Loss, model: nn.Module | None = None, batch: dict[str, Tensor] | None = None) -> None:
    model = model or network()
    refuse_coupled(own_task(loss, model), model, batch or points(), device=CPU)


@pytest.mark.parametrize("loss", [cross_entropy, class_weighted])
def test_losses_of_single_examples_pass(loss: Loss) -> None:
    check(loss)


@pytest.mark.parametrize("middle", [nn.Dropout(0.5), nn.GroupNorm(2, 8), nn.LayerNorm(8), nn.AlphaDropout(0.2)])
def test_models_that_see_single_examples_pass(middle: nn.Module) -> None:
    check(cross_entropy, network(middle))


@pytest.mark.parametrize("model", ["mlp", "tiny_net"])
def test_image_classification_passes(tmp_path: Path, model: str) -> None:
    overrides = {"training.label_smoothing": 0.1, "model.architecture": model}
    task = image_task(tmp_path, overrides | ({"model.options": {"dropout": 0.4}} if model == "mlp" else {}))
    refuse_coupled_task(task)
    refuse_coupled(task, task.build_model(), images(task), device=CPU)


COUPLED = [class_weighted_mean, class_weighted_shares, standardized, frequent_labels, label_mean, contrastive]
COUPLED += [neighbours, hardest_only, expanded_mean]


@pytest.mark.parametrize("loss", COUPLED)
def test_coupled_losses_are_refused_in_one_line(loss: Loss) -> None:
    with pytest.raises(
        ConfigError, match=r"^task: the loss of one example moves from [\d.]+ to [\d.]+ with "
    ) as raised:
        check(loss)
    assert "\n" not in str(raised.value)
    assert "clipping does not bound" in str(raised.value)


@pytest.mark.parametrize(("loss", "name"), [(class_weighted_shares, "labels"), (contrastive, "inputs")])
def test_the_tensor_that_moves_the_losses_is_named(loss: Loss, name: str) -> None:
    with pytest.raises(ConfigError, match=f"with {name} of another one"):
        check(loss, batch=points() if name == "labels" else points() | {"labels": torch.ones(6, dtype=torch.int64)})


def test_what_only_one_tensor_moves_is_found() -> None:
    """Each example has what its label says: replacing all of it leaves the sum of their differences as it is."""
    batch = {"inputs": F.one_hot(points()["labels"], 5).float(), "labels": points()["labels"]}

    def consistent(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels) + (hidden[-1].argmax(dim=1) - labels).abs().sum()

    hidden: list[Tensor] = []
    model = network()
    model.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    with pytest.raises(ConfigError, match="with inputs of another one"):
        check(consistent, model, batch)


def test_a_gradient_that_is_coupled_in_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gradient of the examples' losses moves by .* though the losses stay"):
        check(gradient_alone)


@pytest.mark.parametrize("frozen", [False, True])
def test_batch_norm_is_refused_as_the_models(frozen: bool) -> None:
    model = network(nn.BatchNorm1d(8))
    model.requires_grad_(not frozen)
    with pytest.raises(ConfigError, match=r"^model: the loss of one example .*GroupNorm"):
        check(cross_entropy, model)


def test_batch_norm_that_is_frozen_passes(tmp_path: Path) -> None:
    task = image_task(tmp_path, {"model.architecture": "simple_cnn"})
    model = task.build_model()
    with pytest.raises(ConfigError, match=r"^model: "):
        refuse_coupled(task, model, images(task), device=CPU)
    freeze(model, ["features.*"])
    refuse_coupled(task, model, images(task), device=CPU)


def test_everything_is_as_before() -> None:
    model = network(nn.BatchNorm1d(8), nn.Dropout(0.5))
    model.register_buffer("steps", torch.zeros(()))
    model.register_forward_pre_hook(lambda module, _: setattr(module, "steps", module.steps + 1))
    model[1].eval()
    steps, before = model.steps, {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generators = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    with pytest.raises(ConfigError):
        check(cross_entropy, model)
    assert model.steps is steps
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1:] == (random.getstate(), str(np.random.get_state()))


def test_labels_that_happen_to_be_the_same_are_no_excuse() -> None:
    for label in (0, 2):
        with pytest.raises(ConfigError, match="with labels of another one"):
            check(class_weighted_shares, batch=points() | {"labels": torch.full((6,), label)})
    check(cross_entropy, batch=points() | {"labels": torch.zeros(6, dtype=torch.int64)})


@pytest.mark.parametrize("batch", [points(1), {name: tensor[[0, 0, 0]] for name, tensor in points().items()}])
def test_what_cannot_be_told_is_told(batch: dict[str, Tensor], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        check(expanded_mean, batch=batch)
    assert "could not be checked" in caplog.text


def test_draws_of_their_own_cannot_be_checked() -> None:
    generator = torch.Generator().manual_seed(3)
    with pytest.raises(ConfigError, match="differ when they are computed twice"):
        check(lambda logits, labels: cross_entropy(logits, labels) + torch.rand(len(labels), generator=generator))


def test_draws_of_all_global_generators_are_alike() -> None:
    def noisy(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits + torch.rand(3) + random.random() + float(np.random.rand()), labels)

    check(noisy)


def test_losses_for_no_tensor_of_the_batch_are_refused() -> None:
    class Mean(OwnLoss):
        def losses(self, model: nn.Module, batch: dict[str, Tensor]) -> Losses:
            found = super().losses(model, batch)
            return Losses(found.values.mean()[None], found.outputs)

    config = check_config(OWN, {}, task_config_class).config
    task = Mean(config, OwnParts(network(), {}, loss=cross_entropy))
    with pytest.raises(ConfigError, match=r"gives 1 losses for a batch of inputs \(6, 5\), labels \(6,\)"):
        refuse_coupled(task, network(), points(), device=CPU)


def test_a_loss_that_is_not_finite_is_no_coupling_but_one_that_spreads_is() -> None:
    batch = points()
    batch["inputs"][2] = float("nan")
    check(cross_entropy, batch=batch)
    with pytest.raises(ConfigError, match="moves from"):
        check(expanded_mean, batch=points() | {"inputs": batch["inputs"]})


def test_tensors_that_do_not_go_together_are_passed_over() -> None:
    def strict(logits: Tensor, labels: Tensor) -> Tensor:
        if not torch.equal(labels, points()["labels"]):
            raise ValueError("these labels are of other inputs")
        return cross_entropy(logits, labels)

    with pytest.raises(ValueError, match="of other inputs"):
        check(strict)
    same = {"inputs": points()["inputs"][:4], "labels": torch.tensor([0, 1, 2, 0]), "more": torch.ones(4, 1)}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = network()

        def forward(self, inputs: Tensor, more: Tensor) -> Tensor:
            logits: Tensor = self.layers(inputs)
            return logits * more

    check(cross_entropy, Model(), same)


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixing_is_refused_by_its_key(tmp_path: Path, way: str) -> None:
    task = image_task(tmp_path, {"data.transforms": {"train": {way: {"alpha": 0.4}}}})
    with pytest.raises(ConfigError, match=rf"^data.transforms.train.{way}: puts each sample into the losses of 2"):
        refuse_coupled_task(task)


def test_weights_of_examples_are_refused(vectors: dict[str, Any]) -> None:
    load_plugins([str(VECTORS_PLUGIN)])
    alike, weighted = (
        TASKS.get(name)(check_config({**vectors, "task": name}, {}, task_config_class).config)
        for name in ("vectors", "weighted_vectors")
    )
    refuse_coupled_task(alike)
    with pytest.raises(ConfigError, match="weighted_vectors weighs its examples, and a step divides by the sum"):
        refuse_coupled_task(weighted)
