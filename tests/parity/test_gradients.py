"""One window of samples gives one gradient, however it is cut; checked against a loop written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from runs import largest_difference, weights
from torch import nn
from vectors_task import WIDTH, Vectors

from mltrain.core.seeding import SampleGenerator, hash_id, mix, stream_key
from mltrain.data.plan import ShuffledPlan

# 50 samples: six windows of 8 and a ragged one of 2.
CUTS = [(8, 1), (4, 2), (2, 4), (1, 8)]


def by_hand(task: str, *, epochs: int, window: int, learning_rate: float, seed: int = 42) -> dict[str, torch.Tensor]:
    """Train as the design says a step is: the mean over the whole window, in one piece."""
    torch.manual_seed(stream_key(seed, "initial weights") >> 1)
    model = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Dropout(0.0), nn.Linear(16, 2))
    data, plan, augmentation = (
        Vectors("train", 50, 0.1, -1),
        ShuffledPlan(50, window, seed),
        stream_key(seed, "augmentation"),
    )
    for epoch in range(epochs):
        for number in range(plan.windows_per_epoch):
            items = []
            for index in plan.window(epoch, number).tolist():
                key = mix(mix(augmentation, epoch), hash_id(data.sample_id(index)))
                items.append(data.load(index, SampleGenerator(key)))
            vectors, labels = torch.stack([v for v, _ in items]), torch.tensor([y for _, y in items])
            values = F.cross_entropy(model(vectors), labels, reduction="none")
            factor = 1.0 + vectors[:, 0].abs() if task == "weighted_vectors" else torch.ones(len(items))
            ((values * factor).sum() / factor.sum()).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= learning_rate * parameter.grad
                    parameter.grad = None
    return model.state_dict()


@pytest.mark.parametrize("task", ["vectors", pytest.param("weighted_vectors", marks=pytest.mark.slow)])
def test_every_cut_of_a_window_equals_the_loop_by_hand(task: str, vectors: dict[str, Any], train_vectors: Any) -> None:
    expected = by_hand(task, epochs=3, window=8, learning_rate=0.5)
    settings = {
        "task": task,
        "optimizer.name": "sgd",
        "optimizer.lr": 0.5,
        "scheduler.name": "none",
        "training.max_grad_norm": None,
        "checkpointing.selection": "last",
    }
    for batch_size, accumulation in CUTS:
        cut = {"training.batch_size": batch_size, "training.gradient_accumulation_steps": accumulation}
        result = train_vectors({**settings, **cut})
        assert result.summary["steps"] == 21
        assert largest_difference(weights(result.folder), expected) < 2e-6, (batch_size, accumulation)


def test_a_wrong_normalisation_would_be_seen() -> None:
    """The ragged window weighs as much as a full one: dividing by the window's full size instead would show."""
    right = by_hand("vectors", epochs=1, window=8, learning_rate=0.5)
    other = by_hand("weighted_vectors", epochs=1, window=8, learning_rate=0.5)
    assert largest_difference(right, other) > 1e-3
