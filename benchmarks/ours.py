"""The contender `ours`: a task as a user would write one, run by `mltrain.train` with nothing left out of the loop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contenders import Ticker
from benchmarks.problems import (
    LEARNING_RATE,
    LOG_EVERY,
    MAX_NORM,
    NUM_CLASSES,
    SEED,
    WEIGHT_DECAY,
    Batch,
    Problem,
    Samples,
    collate,
)
from mltrain import train
from mltrain.callbacks.base import Callback, register_callback
from mltrain.core.seeding import SampleGenerator
from mltrain.tasks.base import Losses, Metrics, Task, register_task
from mltrain.tasks.classification_metrics import ClassificationMetrics

_running: tuple[Problem, Ticker]
"""What `run` was called with: a configuration holds plain values only."""


class Dataset:
    """The problem's samples, as mltrain asks for them."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def sample_id(self, index: int) -> str:
        return str(index)

    def load(self, index: int, generator: SampleGenerator | None) -> tuple[torch.Tensor, torch.Tensor]:
        return self._samples[index]


@register_task("benchmark")
class BenchmarkTask(Task):
    def datasets(self) -> dict[str, Any]:
        return {"train": Dataset(_running[0].samples)}

    def collate(self, items: list[Any]) -> Batch:
        return collate(items)

    def build_model(self) -> nn.Module:
        return _running[0].model()

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        logits = model(batch["inputs"])
        return Losses(F.cross_entropy(logits, batch["labels"], reduction="none"), logits)

    def metrics(self) -> Metrics:
        return ClassificationMetrics(NUM_CLASSES)

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        return []


@register_callback("benchmark_tick")
class Tick(Callback):
    def on_fit_start(self, loop: Any) -> None:
        # What MLflow's process does to make a store is no part of a step.
        log = loop.folder.tracking / "mlflow.log"
        while loop.config.tracking.mlflow.enabled and not (log.exists() and "MLflow run" in log.read_text()):
            time.sleep(0.1)

    def on_step_end(self, loop: Any) -> None:
        _running[1].tick(loop.plain_model)


def run(problem: Problem, clock: Ticker, overrides: Mapping[str, Any]) -> None:
    """Train the problem's one epoch; runs and MLflow's store go to the working folder."""
    global _running
    _running = (problem, clock)
    config = {
        "task": "benchmark",
        "seed": SEED,
        "data": {"data_dir": "benchmark", "num_workers": 0},
        "model": {"architecture": "benchmark"},
        "training": {
            "num_epochs": 1,
            "batch_size": problem.batch_size,
            "eval_batch_size": 256,
            "max_grad_norm": MAX_NORM,
            "device": "cpu",
        },
        # One parameter group, as all others here have: the same update, and no second fused kernel.
        "optimizer": {
            "name": "adamw",
            "lr": LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
            "decay_norms_and_biases": True,
        },
        "scheduler": {"name": "none"},
        "tracking": {"log_every_n_steps": LOG_EVERY, "mlflow": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "callbacks": {"benchmark_tick": {}},
    }
    train(config, overrides)
