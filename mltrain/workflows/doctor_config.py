"""What a configuration would use on this machine, and what of it cannot be had, by the checks that training makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from mltrain.config.load import name_place
from mltrain.config.schema import Config
from mltrain.core.byte_text import byte_text
from mltrain.core.errors import MltrainError
from mltrain.core.hardware import as_if_launched, check_device, worker_count
from mltrain.core.machine import Machine
from mltrain.data.batches import collated
from mltrain.tasks.base import TASKS, Task
from mltrain.tracking.run_facts import flatten
from mltrain.trainers.loader_settings import choose_loader_settings, tensor_bytes
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.checks import check_training
from mltrain.workflows.machine_advice import LONG, PRECISION
from mltrain.workflows.machine_flaws import Flaw
from mltrain.workflows.request import ConfigLike, read_request
from mltrain.workflows.scaling import state_values_of

__all__ = ["ConfigReport", "examine_config", "judge_sizes"]

T = TypeVar("T")

_SHARD = "Use a smaller model, or shard it over several GPUs (FSDP2)."


@dataclass
class ConfigReport:
    """A configuration on a machine.

    Attributes:
        config: None where it is not valid.
        configured: every key -> its value as text.
        uses: what a run would use: name -> value; sizes in bytes.
        flaws: what keeps it from being trained, or would stop it later.
    """

    config: Config | None = None
    configured: Mapping[str, str] = field(default_factory=dict)
    uses: dict[str, Any] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)


def examine_config(
    config: ConfigLike, overrides: Mapping[str, Any] | None, processes: int, *, by_hand: str
) -> ConfigReport:
    """Return what a configuration would use here; whatever a check refuses becomes a fatal flaw.

    The data is read as far as training reads it before it begins; nothing is computed.

    Args:
        config, overrides: as for `train`.
        processes: training processes on this machine.
        by_hand: what the overrides are called in errors.
    """
    report = ConfigReport()
    try:
        request = read_request(config, overrides, by_hand=by_hand)
        report.config = checked = request.load().config
    except MltrainError as error:
        _add(report, error)
        return report

    def attempt(check: Callable[[], T]) -> T | None:
        try:
            return check()
        except MltrainError as error:
            name_place(error, request.file, request.overrides, by_hand=by_hand)
            _add(report, error)
            return None

    training = checked.training
    report.configured = flatten(checked.model_dump())
    report.uses |= {"trainer": training.trainer_type, "processes": processes, "precision": _precision(checked)}
    report.uses["window_size"] = training.batch_size * processes * training.gradient_accumulation_steps
    with as_if_launched(processes):
        attempt(lambda: TRAINERS.get(training.trainer_type).check(checked))
        device = attempt(lambda: check_device(training.device))
        report.uses["device"] = device
        task = attempt(lambda: _checked_task(checked))
    if task is not None:
        attempt(lambda: _loading(report, checked, task, device or "cpu", processes))
        attempt(lambda: _sizes(report, checked, task))
    return report


def judge_sizes(report: ConfigReport, machine: Machine) -> list[Flaw]:
    """Return whether memory and disk hold what the model takes. Activations come on top, and nobody knows them yet."""
    uses, found = report.uses, list[Flaw]()
    if "training_bytes" not in uses:
        return found
    need, processes = uses["training_bytes"], uses["processes"]
    kind, _, index = str(uses["device"]).partition(":")
    device = next((each for each in machine.devices if each.kind == kind and each.index == int(index or 0)), None)
    host = machine.memory.usable, "this machine's memory"
    has, where = (device.memory, device.name) if device is not None else host
    total = need * (1 if device is not None else processes)
    if has is not None and total > has:
        what = f"weights, gradients and the optimizer's state take {byte_text(total)}, and {where} has {byte_text(has)}"
        found.append(Flaw(what, _SHARD))
    disk = next((disk for disk in machine.disks if disk.purpose == "run.dir" and not disk.problem), None)
    kept = uses["checkpoint_bytes"] * uses["checkpoints_kept"]
    if disk is not None and kept > disk.free:
        sizes = byte_text(kept), byte_text(disk.free)
        what = f"{uses['checkpoints_kept']} checkpoints take {sizes[0]}, and run.dir has {sizes[1]} free"
        found.append(Flaw(what, "Make room, name another run.dir, or lower checkpointing.keep_top_k and keep_last."))
    return found


def _precision(config: Config) -> str:
    """Return the type of forward passes."""
    training = config.training
    if training.trainer_type == "mixed_precision":
        return training.amp_dtype
    launched = os.environ.get(PRECISION) if training.trainer_type == "accelerate" else None
    return LONG.get(launched or "", "float32")


def _checked_task(config: Config) -> Task:
    task = TASKS.get(config.task)(config)
    check_training(config, task)
    return task


def _loading(report: ConfigReport, config: Config, task: Task, device: str, processes: int) -> None:
    """Note how batches would be loaded."""
    train, training = task.datasets()["train"], config.training
    largest = max(training.batch_size, training.eval_batch_size or 0)
    batch_bytes = tensor_bytes(collated([train.load(0, None)], task.collate)) * largest
    settings = choose_loader_settings(
        config.data, torch.device(device), batch_bytes=batch_bytes, local_processes=processes, is_main=False
    )
    report.uses |= {
        "training_samples": len(train), "batch_bytes": batch_bytes, "num_workers": settings.num_workers,
        "prefetch_factor": settings.prefetch_factor, "pin_memory": settings.pin_memory,
    }  # fmt: skip
    wish = worker_count(config.data.num_workers, local_processes=processes)
    if config.data.num_workers != "auto" and settings.num_workers < wish:
        what = f"data.num_workers is {wish}, and shared memory holds the batches of {settings.num_workers}"
        report.flaws.append(Flaw(what, "Enlarge shared memory, or lower data.num_workers."))


def _sizes(report: ConfigReport, config: Config, task: Task) -> None:
    """Note what the model takes; nothing of one that cannot be built without memory for its weights."""
    try:
        with torch.device("meta"):
            parameters = list(task.build_model().parameters())
    except MltrainError:
        raise
    except Exception:  # it reads values while it is built
        return
    values = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    state, average = round(trained * state_values_of(config.optimizer)), values * config.training.ema.enabled
    section = config.checkpointing
    report.uses |= {
        "parameters": values,
        "trained_parameters": trained,
        "training_bytes": 4 * (values + trained + state + average),
        "checkpoint_bytes": 4 * (values + state + average),
        # The newest, the best by each metric, and the one that is being written.
        "checkpoints_kept": section.keep_last + section.keep_top_k * (1 + len(section.also_best)) + 1,
    }


def _add(report: ConfigReport, error: MltrainError) -> None:
    known = {flaw.what for flaw in report.flaws}
    report.flaws += [Flaw(line, "", fatal=True) for line in error.problems if line not in known]
