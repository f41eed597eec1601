"""What tests read back from a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mltrain.callbacks.base import CALLBACKS, Callback, Loop, register_callback
from mltrain.tracking.metrics_log import is_measured


def history(folder: Path) -> list[dict[str, Any]]:
    """Return every logged value of a run but those that measure the machine."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in record.items() if not is_measured(key)} for record in records]
    return [record for record in kept if len(record) > len(("step", "epoch"))]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the packed weights of a run."""
    return load_file(folder / "model" / "model.safetensors")


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest absolute difference between two sets of weights."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


class StopAt(Callback):
    """Interrupts the run after a step, as a signal would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, loop: Loop) -> None:
        if loop.position.step == self.step:
            loop.stop.request("interrupted", "the test asked for it", signal=15)


class StopEarlyAt(StopAt):
    """Ends the run after a step, as a criterion of the user's would."""

    def on_step_end(self, loop: Loop) -> None:
        if loop.position.step == self.step:
            loop.stop.request("early_stopped", "the test asked for it")


if "stop_at" not in CALLBACKS.names():
    register_callback("stop_at")(StopAt)
    register_callback("stop_early_at")(StopEarlyAt)
