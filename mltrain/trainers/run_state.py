"""The state of a run, to a checkpoint and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mltrain.callbacks.base import Callback
from mltrain.checkpoints.manifest import verify_manifest
from mltrain.checkpoints.tensors import load_optimizer, load_tensors, save_optimizer, save_tensors
from mltrain.core.errors import CheckpointError, ConfigError
from mltrain.core.files import read_json, write_json
from mltrain.core.hardware import instruction_set
from mltrain.core.logging import log
from mltrain.data.plan import Position

if TYPE_CHECKING:
    from mltrain.trainers.base import Trainer

__all__ = ["load_state", "load_weights", "metrics_length", "save_state"]

_FORMAT = 1


def save_state(trainer: Trainer) -> str:
    """Commit a checkpoint of everything the run needs to continue; returns its name."""
    name = trainer.checkpoints.next_name(trainer.position.step)
    meters = trainer.processes.gather(trainer.meter.state())
    failure: str | None = None
    if trainer.recorder is not None:
        try:
            trainer.checkpoints.save(trainer.position.step, lambda folder: _write(trainer, folder, meters))
        except OSError as error:
            failure = f"{error.strerror or error}"
    failures = [text for text in trainer.processes.gather(failure) if text]
    if failures:
        raise CheckpointError(
            f"cannot be saved ({failures[0]})",
            where=str(trainer.checkpoints.folder),
            fix="Free some space or mend the permissions, then continue with --resume; earlier checkpoints are whole.",
        )
    return name


def load_state(trainer: Trainer, folder: Path) -> None:
    """Put a run back where a checkpoint stood. The checkpoint is verified first."""
    verify_manifest(folder)
    state = read_json(folder / "state.json")
    if state["format"] != _FORMAT:
        raise CheckpointError(
            f"has format {state['format']}; this version reads {_FORMAT}",
            where=str(folder),
            fix="Use the version of mltrain that wrote it.",
        )
    _load_module(trainer.plain_model, folder / "model.safetensors")
    load_optimizer(folder, trainer.optimizer)
    if trainer.ema is not None:
        _load_module(trainer.ema.model, folder / "ema.safetensors")
    if trainer.accelerator.scaler is not None and state["scaler"] is not None:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    trainer.position = Position(**state["position"])
    trainer.samples_seen = state["samples_seen"]
    trainer.timing.load(state["timing"])
    trainer.schedule.load(state["schedule"])
    trainer.load_extra_state(state["trainer"])
    _load_meters(trainer, state["meters"])
    for callback in trainer.callbacks:
        if type(callback).__name__ in state["callbacks"]:
            callback.load(state["callbacks"][type(callback).__name__])
    for what, (then, now) in _differences(state["environment"], _environment(trainer)).items():
        log.warning("Resumed with %s %s instead of %s: the rest is not bit-exact.", what, now, then)


def load_weights(trainer: Trainer, folder: Path) -> None:
    """Take the weights of a checkpoint, and nothing else, into the model that is evaluated."""
    verify_manifest(folder)
    _load_module(trainer.plain_model, folder / "model.safetensors")
    if trainer.ema is not None:
        _load_module(trainer.ema.model, folder / "ema.safetensors")


def metrics_length(folder: Path) -> int:
    """Return how many bytes `metrics.jsonl` had when a checkpoint was saved."""
    length: int = read_json(folder / "state.json")["metrics_length"]
    return length


def _write(trainer: Trainer, folder: Path, meters: list[dict[str, Any]]) -> None:
    save_tensors(folder / "model.safetensors", trainer.plain_model.state_dict())
    save_optimizer(folder, trainer.optimizer)
    if trainer.ema is not None:
        save_tensors(folder / "ema.safetensors", trainer.ema.state_dict())
    scaler = trainer.accelerator.scaler
    state = {
        "format": _FORMAT,
        "position": vars(trainer.position),
        "samples_seen": trainer.samples_seen,
        "timing": trainer.timing.state(),
        "schedule": trainer.schedule.state(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "meters": meters,
        "callbacks": {type(callback).__name__: _callback_state(callback) for callback in trainer.callbacks},
        "trainer": trainer.extra_state(),
        "metrics_length": trainer.recorder.length if trainer.recorder is not None else 0,
        "environment": _environment(trainer),
    }
    write_json(folder / "state.json", state)


def _callback_state(callback: Callback) -> dict[str, Any]:
    state = callback.state()
    try:
        json.dumps(state)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"gives a state that cannot be kept ({error})",
            where=f"{type(callback).__name__}.state",
            fix="Return numbers, texts, lists and dicts of them.",
        ) from None
    return state


def _load_module(module: torch.nn.Module, path: Path) -> None:
    if not path.exists():
        raise CheckpointError("is missing", where=str(path), fix="Resume with the configuration of the run.")
    try:
        module.load_state_dict(load_tensors(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"holds the weights of another model ({reason})",
            where=str(path),
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
    }
    if trainer.device.type == "cpu":
        facts |= {"threads": torch.get_num_threads(), "instruction set": instruction_set()}
    return facts


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {key: (then.get(key), now.get(key)) for key in {*then, *now} if then.get(key) != now.get(key)}
