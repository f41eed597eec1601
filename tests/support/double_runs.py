"""Runs in double precision, of one or several real processes, and what must be equal between them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rank_environment import rank_environments
from runs import history, weights
from warm_commands import WarmCommand

from mltrain.data.plan import ShuffledPlan

__all__ = ["WINDOW", "assert_equal_runs", "begin", "continued", "windows_of"]

WINDOW, SEED = 12, 42
_SUPPORT = Path(__file__).parent
_PLUGINS = [str(_SUPPORT / name) for name in ("vectors_task.py", "acting_task.py", "double_task.py")]
_SETTINGS: dict[str, Any] = {
    "data.val_size": 3,
    "training.max_grad_norm": 0.5,
    "training.ema": {"enabled": True, "decay": 0.9},
    "optimizer.lr": 0.01,
    "scheduler.name": "cosine",
    "tracking.log_every_n_steps": 1,
    "tracking.system_metrics.enabled": False,
}


def begin(
    vectors: Mapping[str, Any],
    folder: Path,
    name: str,
    cut: tuple[int, int, int],
    settings: Mapping[str, Any],
    *,
    stop_at: int | None = None,
) -> Path:
    """Train by AdamW, clipped, averaged, with a cosine schedule; returns the run folder.

    Args:
        vectors: the fixture.
        folder: below which the run lies, and a log of the samples that each process takes.
        name: of the run.
        cut: (processes, batch size, accumulation).
        settings: further keys.
        stop_at: the step after which the last process gets SIGTERM.
    """
    processes, batch_size, accumulation = cut
    taken = folder / f"taken_{name}"
    taken.mkdir()
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({**vectors, "task": "double_vectors", "plugins": _PLUGINS}))
    wishes = {
        **_SETTINGS,
        **settings,
        "training.batch_size": batch_size,
        "training.gradient_accumulation_steps": accumulation,
        "callbacks": {"taken_log": {"folder": str(taken)}, "acting": {}},
    }
    words = ["--config", str(config), "--trainer", "accelerate", "--run_name", name]
    words += [f"{key}={json.dumps(value)}" for key, value in wishes.items()]
    run = folder / "runs" / name
    _train(words, run, processes, stop_at)
    return run


def continued(run: Path, processes: int, *words: str, stop_at: int | None = None) -> None:
    """Continue a run on so many processes, by the command without its configuration."""
    _train(["--resume", str(run), *words], run, processes, stop_at)


def _train(words: Sequence[str], run: Path, processes: int, stop_at: int | None) -> None:
    acts = [{"place": "on_step_end", "at": stop_at, "rank": processes - 1, "do": ["SIGTERM"]}]
    environment = {"ACT": json.dumps([] if stop_at is None else acts)}
    commands = [
        WarmCommand(["mltrain", *words], run.parent.parent, {**environment, **variables})
        for variables in rank_environments(processes)
    ]
    results = [command.end() for command in commands]
    assert [result.returncode for result in results] == [0 if stop_at is None else 143] * processes, results


def windows_of(run: Path) -> dict[int, list[int]]:
    """Return step -> samples that its processes computed in it, in order of rank."""
    found: dict[int, list[int]] = defaultdict(list)
    for file in sorted((run.parent.parent / f"taken_{run.name}").iterdir()):
        for line in file.read_text().splitlines():
            step, samples = json.loads(line)
            found[step] += samples
    return dict(found)


def assert_equal_runs(one: Path, other: Path, *, samples: int, steps: int) -> None:
    """Assert that weights and every logged value are equal to 1e-10, windows and counts exactly."""
    mine, theirs = weights(one), weights(other)
    for name, tensor in mine.items():
        assert float((tensor - theirs[name]).abs().max()) <= 1e-10 * float(tensor.abs().max()), name
    for record, expected in zip(history(other), history(one), strict=True):
        assert record == pytest.approx(expected, rel=1e-10, abs=1e-12)
    plan = ShuffledPlan(samples, WINDOW, SEED)
    order = {step: plan.window(*divmod(step, plan.windows_per_epoch)).tolist() for step in range(steps)}
    assert windows_of(one) == windows_of(other) == order
    counts = {"train": samples, "val": 3, "test": 17}
    for record in history(other):
        for split in (split for split in counts if f"{split}/samples" in record):
            assert record[f"{split}/samples"] == record[f"{split}/counted_once"] == counts[split]
