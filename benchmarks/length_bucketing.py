"""What batches of similar length save: `python -m benchmarks.length_bucketing --config configs/sms_spam.yaml`.

Needs the data of a configuration of a task on texts, and its splits. Of each order of the samples the places of all
batches of five epochs are counted, tokens and padding; then steps of the model (forward, backward, AdamW) are timed in
the processor time of one thread, a part of an epoch of each order in turn, so that a busy machine bears on both. The
last order is that of private training: draws of sixteen batches on average, each cut into batches by length.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.reports import table
from mltrain.config.load import check_config
from mltrain.config.yaml_file import read_yaml
from mltrain.data.batches import Batch
from mltrain.data.bucketed_plan import BucketedPlan
from mltrain.data.loader import Plan
from mltrain.data.plan import ShuffledPlan
from mltrain.privacy.poisson_plan import PoissonPlan
from mltrain.tasks.base import TASKS, Task, task_config_class

Indices = NDArray[np.int64]
DRAW = 16


def shuffled(lengths: Indices, batch_size: int) -> Iterator[Indices]:
    return _windows(ShuffledPlan(len(lengths), batch_size, SEED))


def bucketed(lengths: Indices, batch_size: int) -> Iterator[Indices]:
    return _windows(BucketedPlan(lengths, batch_size, SEED))


def drawn(lengths: Indices, batch_size: int) -> Iterator[Indices]:
    plan = PoissonPlan(len(lengths), DRAW * batch_size, 1_000_000, key=bytes(32), lengths=lengths)
    for window in _windows(plan):
        yield from (window[start : start + batch_size] for start in range(0, len(window), batch_size))


SEED = 42
ORDERS = {"shuffled": shuffled, "bucketed": bucketed, "drawn": drawn}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/sms_spam.yaml")
    parser.add_argument("--architectures", nargs="+", default=["bert_tiny", "cnn_text"])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=6, help="parts of an epoch that are timed of each order")
    parser.add_argument("--steps", type=int, default=20, help="windows of a part")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for architecture in arguments.architectures:
        task = _task(arguments.config, architecture)
        paddings = {name: _padding(task, name, arguments.batch_size) for name in ORDERS}
        times = _times(task, arguments.batch_size, arguments.rounds, arguments.steps)
        for name in ORDERS:
            ratios = [own / other for own, other in zip(times[name], times["shuffled"], strict=True)]
            rows.append(
                [
                    f"{architecture}, {name}",
                    f"{paddings[name]:.1%}",
                    f"{statistics.median(times[name]) / arguments.steps * 1e3:.1f}",
                    f"{statistics.median(ratios):.2f}",
                ]
            )
    print(table(["model, order", "padding", "CPU ms a step", "ratio"], rows))
    return 0


def _task(config: str, architecture: str) -> Task:
    overrides = {"model.architecture": architecture, "data.length_bucketing": True}
    checked = check_config(read_yaml(Path(config))[0], overrides, task_config_class).config
    return TASKS.get(checked.task)(checked)


def _lengths(task: Task) -> Indices:
    return np.asarray(task.sample_lengths(), dtype=np.int64)


def _padding(task: Task, order: str, batch_size: int) -> float:
    """Return the share of padding in the batches of five epochs."""
    lengths = _lengths(task)
    count = 5 * math.ceil(len(lengths) / batch_size)
    batches = [lengths[batch] for batch in itertools.islice(ORDERS[order](lengths, batch_size), count)]
    places = sum(int(batch.max()) * len(batch) for batch in batches)
    return 1 - sum(int(batch.sum()) for batch in batches) / places


def _times(task: Task, batch_size: int, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the processor seconds of parts of an epoch, of each order."""
    models, optimizers, batches = {}, {}, {}
    for name, order in ORDERS.items():
        torch.manual_seed(0)
        models[name] = task.build_model().train()
        optimizers[name] = torch.optim.AdamW(models[name].parameters(), lr=1e-3, fused=True)
        batches[name] = _collated(task, order(_lengths(task), batch_size))
    times: dict[str, list[float]] = {name: [] for name in ORDERS}
    for number in range(rounds + 1):
        for name in ORDERS:
            part = [next(batches[name]) for _ in range(steps)]
            began = time.process_time()
            for batch in part:
                _step(task, models[name], optimizers[name], batch)
            if number:  # the first part warms up
                times[name].append(time.process_time() - began)
    return times


def _collated(task: Task, order: Iterator[Indices]) -> Iterator[Batch]:
    dataset = task.datasets()["train"]
    for batch in order:
        yield task.collate([dataset.load(index, None) for index in batch.tolist()])


def _windows(plan: Plan) -> Iterator[Indices]:
    """Give the windows of one epoch after the other."""
    for epoch in itertools.count():
        yield from (plan.window(epoch, number) for number in range(plan.windows_per_epoch))


def _step(task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    task.losses(model, batch).values.mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


if __name__ == "__main__":
    sys.exit(main())
