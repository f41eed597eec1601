"""Losses that depend on what a sample is collated with are found, those of padding that is masked pass."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_coupling import CPU, OWN, cross_entropy, image_task, network
from torch import Tensor, nn

from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError
from mltrain.privacy.collation import refuse_coupled_collation
from mltrain.tasks.base import task_config_class
from mltrain.tasks.own_module import OwnLoss, OwnParts

Item = tuple[Tensor, int]
LENGTHS = [4, 12, 7, 3, 12, 5]


class Pooled(nn.Module):
    """Mean over the positions, masked or not; may fail for few examples, as a squeeze does."""

    def __init__(self, *, masked: bool, least: int = 1) -> None:
        super().__init__()
        self.layers, self.masked, self.least = network(nn.Dropout(0.5)), masked, least
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        self.calls += 1
        if len(inputs) < self.least:
            raise ValueError("too few examples")
        counts = lengths if self.masked else torch.full_like(lengths, inputs.shape[1])
        logits: Tensor = self.layers(inputs.sum(dim=1) / counts[:, None])
        return logits


def samples(lengths: list[int]) -> list[Item]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(length, 5, generator=generator), index % 3) for index, length in enumerate(lengths)]


def padded(items: list[Item]) -> dict[str, Tensor]:
    """Return a batch, and take the items apart, as some do."""
    batch = {
        "inputs": nn.utils.rnn.pad_sequence([inputs for inputs, _ in items], batch_first=True),
        "lengths": torch.tensor([len(inputs) for inputs, _ in items]),
        "labels": torch.tensor([label for _, label in items]),
    }
    items.clear()
    return batch


def check(model: nn.Module, items: list[Item], collate: Any = padded) -> None:
    parts = OwnParts(model, {}, loss=cross_entropy, collate=collate)
    task = OwnLoss(check_config(OWN, {}, task_config_class).config, parts)
    refuse_coupled_collation(task, model, items, device=CPU)


def test_padding_that_is_masked_passes() -> None:
    check(Pooled(masked=True), samples(LENGTHS))


def test_padding_that_is_not_masked_is_refused_in_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"^task: the loss of one sample is [\d.]+ alone and [\d.]+ when it is collated with 5 others"
    ) as raised:
        check(Pooled(masked=False), samples(LENGTHS))
    assert "Mask the padding" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_statistics_of_the_batch_in_collate_are_refused() -> None:
    def centered(items: list[Item]) -> dict[str, Tensor]:
        batch = padded(items)
        return batch | {"inputs": batch["inputs"] - 0.1 * batch["inputs"].mean(dim=0)}

    check(Pooled(masked=True), samples([4] * 6))
    with pytest.raises(ConfigError, match="Mask the padding in the model, or collate so that"):
        check(Pooled(masked=True), samples([4] * 6), centered)


def test_halves_are_compared_where_a_batch_of_one_fails() -> None:
    items = samples([12, 4, 7, 3, 5, 6])
    check(Pooled(masked=True, least=2), items)
    with pytest.raises(ConfigError, match=r"is [\d.]+ in a batch of 3 and [\d.]+ when"):
        check(Pooled(masked=False, least=2), items)
    with pytest.raises(ValueError, match="too few examples"):
        check(Pooled(masked=True, least=4), items)


@pytest.mark.parametrize(("count", "least"), [(1, 1), (3, 2)])
def test_too_few_samples_are_told(count: int, least: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        check(Pooled(masked=False, least=least), samples([4] * count))
    assert "could not be checked" in caplog.text


def test_draws_in_collate_are_told(caplog: pytest.LogCaptureFixture) -> None:
    def noisy(items: list[Item]) -> dict[str, Tensor]:
        batch = padded(items)
        return batch | {"inputs": batch["inputs"] + torch.rand(())}

    with caplog.at_level(logging.WARNING, logger="mltrain"):
        check(Pooled(masked=True), samples(LENGTHS), noisy)
    assert "drawn at random" in caplog.text


def test_a_sample_of_two_losses_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^task: gives 12 losses for 6 samples"):
        check(Pooled(masked=True), samples(LENGTHS), lambda items: padded([*items, *items]))


def test_images_pass(tmp_path: Path) -> None:
    task = image_task(tmp_path, {"model.architecture": "tiny_net"})
    dataset = task.datasets()["train"]
    refuse_coupled_collation(task, task.build_model(), [dataset.load(index, None) for index in range(4)], device=CPU)


@pytest.mark.parametrize("masked", [True, False])
def test_everything_is_as_before(masked: bool) -> None:
    model, items = Pooled(masked=masked), samples(LENGTHS)
    model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    generators = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    if masked:
        check(model, items)
    else:
        with pytest.raises(ConfigError):
            check(model, items)
    assert float(model.calls) == 0
    assert len(items) == len(LENGTHS)
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert torch.equal(generators[0], torch.get_rng_state())
    assert generators[1:] == (random.getstate(), str(np.random.get_state()))
