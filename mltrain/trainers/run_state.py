"""The state of a run, to a checkpoint and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mltrain.callbacks.base import Callback
from mltrain.checkpoints.manifest import verify_manifest
from mltrain.checkpoints.optimizer_state import OPTIMIZER_TENSORS, OPTIMIZER_VALUES, load_optimizer, optimizer_state
from mltrain.checkpoints.parts import part_file
from mltrain.checkpoints.snapshot import Snapshot
from mltrain.checkpoints.tensor_files import open_tensors
from mltrain.core.errors import CheckpointError, ConfigError
from mltrain.core.files import read_json
from mltrain.core.hardware import instruction_set
from mltrain.core.logging import log
from mltrain.data.plan import Position

if TYPE_CHECKING:
    from mltrain.trainers.base import Trainer

__all__ = ["load_learned", "load_state", "load_weights", "metrics_length", "take_snapshot"]

_FORMAT = 2
_MODEL, _EMA, _STATE = "model", "ema", "state.json"


def take_snapshot(trainer: Trainer, meters: list[dict[str, Any]]) -> Snapshot:
    """Copy what this process has to keep of all that the run needs to continue.

    Args:
        trainer: on one of the processes that write, of which the main one keeps what is not in parts.
        meters: the state of each process's meter.
    """
    tensors, values = optimizer_state(trainer.optimizer)
    states = {_MODEL: trainer.plain_model.state_dict(), OPTIMIZER_TENSORS: tensors}
    if trainer.ema is not None:
        states[_EMA] = trainer.ema.state_dict()
    files = {
        part_file(stem, trainer.processes.rank, trainer.layout.writers): trainer.buffers.copy(
            stem, *trainer.layout.own(state)
        )
        for stem, state in states.items()
    }
    return Snapshot(files, {OPTIMIZER_VALUES: values, _STATE: _values(trainer, meters)} if trainer.is_main else {})


def load_state(trainer: Trainer, folder: Path) -> None:
    """Put a run back where a checkpoint stood. The checkpoint is verified first."""
    state = load_learned(trainer, folder)
    trainer.position = Position(**state["position"])
    trainer.samples_seen = state["samples_seen"]
    trainer.timing.load(state["timing"])
    trainer.schedule.load(state["schedule"])
    trainer.microbatches.load(state["microbatches"])
    trainer.nonfinite.load(state["nonfinite_in_a_row"])
    trainer.load_extra_state(state["trainer"])
    _load_meters(trainer, state["meters"])
    for callback in trainer.callbacks:
        if type(callback).__name__ in state["callbacks"]:
            callback.load(state["callbacks"][type(callback).__name__])
    for what, (then, now) in _differences(state["environment"], _environment(trainer)).items():
        log.warning("Resumed with %s %s instead of %s: the rest is not bit-exact.", what, now, then)


def load_learned(trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Take back what was learned: weights, state of the optimizer, average, loss scale; returns the whole state."""
    load_weights(trainer, folder)
    state: dict[str, Any] = read_json(folder / _STATE)
    if state["format"] != _FORMAT:
        raise CheckpointError(
            f"has format {state['format']}; this version reads {_FORMAT}",
            where=str(folder),
            fix="Use the version of mltrain that wrote it.",
        )
    load_optimizer(folder, trainer.optimizer)
    if trainer.accelerator.scaler is not None and state["scaler"] is not None:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    return state


def load_weights(trainer: Trainer, folder: Path) -> None:
    """Take the weights of a checkpoint, which is verified first, and nothing else. Every process must call it."""
    trainer.processes.done_by_main(lambda: verify_manifest(folder))
    _load_module(trainer.plain_model, folder, _MODEL)
    if trainer.ema is not None:
        _load_module(trainer.ema.model, folder, _EMA)


def metrics_length(folder: Path) -> int:
    """Return how many bytes `metrics.jsonl` had when a checkpoint was saved."""
    length: int = read_json(folder / _STATE)["metrics_length"]
    return length


def _values(trainer: Trainer, meters: list[dict[str, Any]]) -> dict[str, Any]:
    scaler = trainer.accelerator.scaler
    return {
        "format": _FORMAT,
        "position": vars(trainer.position),
        "samples_seen": trainer.samples_seen,
        "timing": trainer.timing.state(),
        "schedule": trainer.schedule.state(),
        "microbatches": trainer.microbatches.state(),
        "nonfinite_in_a_row": trainer.nonfinite.state(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "meters": meters,
        "callbacks": {type(callback).__name__: _callback_state(callback) for callback in trainer.callbacks},
        "trainer": trainer.extra_state(),
        "metrics_length": trainer.recorder.length if trainer.recorder is not None else 0,
        "environment": _environment(trainer),
    }


def _callback_state(callback: Callback) -> dict[str, Any]:
    state = callback.state()
    try:
        json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"gives a state that cannot be kept ({error})",
            where=f"{type(callback).__name__}.state",
            fix="Return numbers, texts, lists and dicts of them.",
        ) from None
    return state


def _load_module(module: torch.nn.Module, folder: Path, stem: str) -> None:
    own = module.state_dict()
    with open_tensors(folder, stem) as files:
        state = {name: files.read(name, like=own.get(name)) for name in files.names()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"holds the weights of another model ({reason})",
            where=str(folder / f"{stem}.safetensors"),
            fix="Resume with the model that the run was started with.",
        ) from None


def _load_meters(trainer: Trainer, meters: list[dict[str, Any]]) -> None:
    if len(meters) == trainer.processes.count:
        trainer.meter.merge(meters[trainer.processes.rank])
    elif trainer.is_main:
        for meter in meters:
            trainer.meter.merge(meter)


def _environment(trainer: Trainer) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "device": trainer.device.type,
        "processes": trainer.processes.count,
        "layout": trainer.layout.division,
        "compilation": section.backend if (section := trainer.config.training.compile).enabled else None,
    }
    if trainer.device.type == "cpu":
        facts |= {"threads": torch.get_num_threads(), "instruction set": instruction_set()}
    return facts


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (then.get(key), now.get(key)) for key in {*then, *now} if then.get(key) != now.get(key)}
