"""What windows of similar length save: `python -m benchmarks.length_bucketing --config configs/sms_spam.yaml`.

Needs the data of a configuration of a task on texts, and its splits. Of each order of the samples the places of all
microbatches of an epoch are counted, tokens and padding; then steps of the model (forward, backward, AdamW) are timed
in the processor time of one thread, a part of an epoch of each order in turn, so that a busy machine bears on both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.reports import table
from mltrain.config.load import check_config
from mltrain.config.yaml_file import read_yaml
from mltrain.data.batches import Batch
from mltrain.tasks.base import TASKS, Task, task_config_class
from mltrain.tasks.sample_order import training_plan

ORDERS = {"shuffled": False, "bucketed": True}


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
        tasks = {name: _task(arguments.config, architecture, wanted) for name, wanted in ORDERS.items()}
        paddings = {name: _padding(task, arguments.batch_size) for name, task in tasks.items()}
        times = _times(tasks, arguments.batch_size, arguments.rounds, arguments.steps)
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


def _task(config: str, architecture: str, bucketed: bool) -> Task:
    overrides = {"model.architecture": architecture, "data.length_bucketing": bucketed}
    checked = check_config(read_yaml(Path(config))[0], overrides, task_config_class).config
    return TASKS.get(checked.task)(checked)


def _padding(task: Task, batch_size: int) -> float:
    """Return the share of padding in the batches of five epochs."""
    lengths = np.asarray([len(task.datasets()["train"].load(i, None).ids) for i in range(_count(task))])
    plan = training_plan(task, len(lengths), batch_size, seed=42)
    windows = [lengths[plan.window(epoch, number)] for epoch in range(5) for number in range(plan.windows_per_epoch)]
    places = sum(int(window.max()) * len(window) for window in windows)
    return 1 - sum(int(window.sum()) for window in windows) / places


def _times(tasks: dict[str, Task], batch_size: int, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the processor seconds of parts of an epoch."""
    models, optimizers, batches = {}, {}, {}
    for name, task in tasks.items():
        torch.manual_seed(0)
        models[name] = task.build_model().train()
        optimizers[name] = torch.optim.AdamW(models[name].parameters(), lr=1e-3, fused=True)
        batches[name] = _batches(task, batch_size)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            part = [next(batches[name]) for _ in range(steps)]
            began = time.process_time()
            for batch in part:
                _step(task, models[name], optimizers[name], batch)
            if number:  # the first part warms up
                times[name].append(time.process_time() - began)
    return times


def _batches(task: Task, batch_size: int) -> Iterator[Batch]:
    dataset = task.datasets()["train"]
    plan = training_plan(task, len(dataset), batch_size, seed=42)
    for epoch in range(1_000_000):
        for number in range(plan.windows_per_epoch):
            yield task.collate([dataset.load(index, None) for index in plan.window(epoch, number).tolist()])


def _step(task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    task.losses(model, batch).values.mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def _count(task: Task) -> int:
    return len(task.datasets()["train"])


if __name__ == "__main__":
    sys.exit(main())
