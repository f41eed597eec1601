"""What is found wrong before any compute is spent, and what is not held against a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mltrain.callbacks.base import CALLBACKS, Callback, register_callback
from mltrain.config.load import check_config
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError
from mltrain.tasks.base import TASKS, Task, task_config_class
from mltrain.workflows.checks import best_metric, check_training, plugin_callbacks


@pytest.fixture
def make(vectors: dict[str, Any]) -> Any:
    """Return configuration and task of the vectors with overrides."""

    def build(overrides: dict[str, Any] | None = None) -> tuple[Config, Task]:
        config = check_config(vectors, overrides or {}, task_config_class).config
        return config, TASKS.get("vectors")(config)

    return build


class Counting(Callback):
    def __init__(self, every: int, label: str = "x") -> None:
        if every < 1:
            raise ValueError("every must be at least 1")
        self.every, self.label = every, label


if "counting" not in CALLBACKS.names():
    register_callback("counting")(Counting)


def test_callbacks_of_plugins_are_made_with_their_arguments(make: Any) -> None:
    config, _ = make({"callbacks": {"counting": {"every": 2}}})
    (callback,) = plugin_callbacks(config)
    assert isinstance(callback, Counting)
    assert (callback.every, callback.label) == (2, "x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "missing a required argument: 'every'"),
        ({"every": 1, "colour": 2}, "got an unexpected keyword argument 'colour'"),
        ({"every": 0}, "every must be at least 1"),
    ],
)
def test_arguments_that_a_callback_does_not_take(make: Any, arguments: dict[str, Any], words: str) -> None:
    config, _ = make({"callbacks": {"counting": arguments}})
    with pytest.raises(ConfigError) as raised:
        plugin_callbacks(config)
    assert str(raised.value) == f"callbacks.counting: counting refuses its arguments ({words}). Correct them."


def test_the_metric_of_the_best_checkpoint(make: Any) -> None:
    assert best_metric(*make()) == ("val/loss", "min")
    config, task = make({"checkpointing.monitor": "val_f1_macro", "checkpointing.mode": "max"})
    assert best_metric(config, task) == ("val/f1_macro", "max")


@pytest.mark.parametrize("monitor", ["val_loss", "val/loss", "train_accuracy", "val_margin"])
def test_both_spellings_of_a_metric_are_known(make: Any, monitor: str) -> None:
    check_training(*make({"early_stopping.enabled": True, "early_stopping.monitor": monitor}))


def test_a_monitor_that_is_not_used_is_not_checked(make: Any) -> None:
    check_training(*make({"early_stopping.monitor": "nonsense", "scheduler.monitor": "nonsense"}))


def test_the_model_is_checked_without_its_weights(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, task = make()
    built: list[nn.Module] = []
    monkeypatch.setattr(task, "build_model", lambda: built.append(nn.Linear(10**6, 10**6)) or built[-1])
    check_training(config, task)
    assert built[0].weight.is_meta


def test_a_model_that_reads_values_while_it_is_built_is_let_through(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, task = make()
    monkeypatch.setattr(task, "build_model", lambda: [float(rate) for rate in torch.linspace(0, 1, 3)])
    check_training(config, task)


def test_a_model_that_cannot_be_had_is_refused(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config, task = make()

    def refuse() -> nn.Module:
        raise ConfigError("no such model", where="model.architecture")

    monkeypatch.setattr(task, "build_model", refuse)
    with pytest.raises(ConfigError, match="no such model"):
        check_training(config, task)


def test_the_checks_draw_no_random_number(make: Any) -> None:
    config, task = make()
    before = torch.get_rng_state()
    check_training(config, task)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(Path().iterdir()) == []
