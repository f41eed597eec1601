"""Mistakes in a task of a user's own: a line that names the method; where possible before there is a run folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from vectors_task import VectorTask

from mltrain.core.errors import ConfigError
from mltrain.tasks.base import TASKS, register_task
from mltrain.tasks.classification_metrics import ClassificationMetrics

_NUMBERS = itertools.count()


@pytest.fixture
def error_of(train_vectors: Any, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Give what a run with a task of these members says."""
    names = []

    def error(**members: Any) -> str:
        names.append(f"mistaken_{next(_NUMBERS)}")
        register_task(names[-1])(type("Mistaken", (VectorTask,), members))
        with pytest.raises(ConfigError) as raised:
            train_vectors({"task": names[-1], "training.num_epochs": 1, "run.dir": str(tmp_path / "runs")})
        return str(raised.value)

    yield error
    for name in names:
        TASKS._items.pop(name, None)


class Samples:
    def __init__(self, count: int, kind: type = str) -> None:
        self.count, self.kind = count, kind

    def __len__(self) -> int:
        return self.count

    def sample_id(self, index: int) -> Any:
        return self.kind(index)

    def load(self, index: int, generator: Any) -> tuple[torch.Tensor, int]:
        return torch.zeros(8), 0


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"datasets": lambda task: None}, "returned nothing. Return a dict of data sets"),
        ({"datasets": lambda task: {"val": Samples(3)}}, "returned splits val. Return a dict"),
        ({"datasets": lambda task: {"train": Samples(0)}}, "the split 'train' has no samples. Give it samples."),
        (
            {"datasets": lambda task: {"train": Samples(9), "val": Samples(0)}},
            "the split 'val' has no samples. Give it samples, or leave it out.",
        ),
        (
            {"datasets": lambda task: {"train": Samples(9), "valid": Samples(2)}},
            "has a split 'valid'. Known: train, val, test.",
        ),
        ({"datasets": lambda task: {"train": [1, 2]}}, "list: the data set lacks sample_id, load. Add"),
        (
            {"datasets": lambda task: {"train": Samples(9, int)}},
            "returned a value of type int. Return a text: str(...).",
        ),
        ({"metrics": lambda task: None}, "returned nothing, which lacks names, compute, merge, state, update."),
        ({"headline": "val/accuracy"}, "Mistaken.headline: is 'val/accuracy'. Let it be a pair such as"),
        ({"headline": ("val/accuracy", "most")}, "Mistaken.headline: is ('val/accuracy', 'most'). Let it be"),
        ({"headline": ("val/acuracy", "max")}, "no metric 'val/acuracy'. Did you mean val/accuracy?"),
        ({"fitted": lambda task: {"classes": {1, 2}}}, "returned what is not JSON (Object of type set"),
        ({"build_model": lambda task: None}, "returned nothing. Return the torch.nn.Module that is to be trained."),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_can_be_seen_at_once_leaves_no_run(
    error_of: Callable[..., str], tmp_path: Path, members: dict[str, Any], said: str
) -> None:
    assert said in error_of(**members)
    assert not (tmp_path / "runs").exists()


def a_value_for_each_but_complex(task: VectorTask, model: Any, batch: Any) -> Any:
    losses = VectorTask.losses(task, model, batch)
    return type(losses)(losses.values.to(torch.complex64), losses.outputs)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"losses": lambda task, model, batch: None}, "returned nothing. Return Losses(values, outputs), with one"),
        (
            {"losses": lambda task, model, batch: model(batch["vectors"]).sum(dim=1)},
            "returned a value of type Tensor. Return Losses(",
        ),
        (
            {"losses": a_value_for_each_but_complex},
            "a_value_for_each_but_complex: the losses of a batch are a complex64 tensor of shape (8,); there must be "
            "one loss for each example, a float, shape (B,)",
        ),
        (
            {"metrics": lambda task: ClassificationMetrics(1)},
            "a label or a prediction is not among the 1 classes, from 0 on.",
        ),
        ({"example_weights": lambda task, batch: [1.0] * 8}, "returned a value of type list. Return one number for"),
        ({"example_weights": lambda task, batch: torch.ones(3)}, "returned 3 weights for a batch with 8 losses."),
        ({"example_weights": lambda task, batch: torch.ones(8, 1)}, "returned a tensor of shape (8, 1). Return one"),
        ({"example_weights": lambda task, batch: -torch.ones(8)}, "a weight that is negative or not finite."),
        ({"example_weights": lambda task, batch: torch.full((8,), torch.nan)}, "negative or not finite."),
        ({"example_weights": lambda task, batch: torch.zeros(8)}, "gave 0 to all examples of a window."),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_shows_in_training(error_of: Callable[..., str], members: dict[str, Any], said: str) -> None:
    assert said in error_of(**members)


def test_a_class_that_is_no_task_is_not_registered() -> None:
    with pytest.raises(
        ConfigError, match=r"test_contract\.py:\d+, .*Alone: task 'alone' is no Task\. Derive the class"
    ):

        @register_task("alone")  # type: ignore[type-var]
        class Alone:
            pass

    assert "alone" not in TASKS.names()
