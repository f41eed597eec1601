"""What to set for a machine, and why: pure functions of its facts. Imports no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mltrain.core.count_text import count_text
from mltrain.core.hardware import automatic_workers
from mltrain.core.machine import Machine
from mltrain.core.shared_memory import PREFETCH, fitting_workers

__all__ = [
    "DEFAULTS",
    "LONG",
    "PRECISION",
    "TYPICAL_BATCH",
    "TYPICAL_BYTES",
    "Advice",
    "advise",
    "command_line",
    "sensible_processes",
]

PRECISION = "ACCELERATE_MIXED_PRECISION"
TYPICAL_BATCH = "32 images of 224 x 224"
TYPICAL_BYTES = 32 * 3 * 224 * 224 * 4
_TRAINER, _AMP = "training.trainer_type", "training.amp_dtype"
_TF32, _THREADS, _WORKERS = "reproducibility.tf32", "reproducibility.num_threads", "data.num_workers"
DEFAULTS = {_TRAINER: "standard", _AMP: "bfloat16", _TF32: "null", _THREADS: "null", _WORKERS: "auto"}
_ORDINARY = ("standard", "mixed_precision", "accelerate")
LONG = {"bf16": "bfloat16", "fp16": "float16"}
_SHORT = {name: short for short, name in LONG.items()}


@dataclass(frozen=True)
class Advice:
    """One setting.

    Attributes:
        key: of the configuration; `--num_processes`, or a variable of the environment.
        value: what to set; None: leave it null.
        reason: why, in a sentence.
    """

    key: str
    value: str | int | bool | None
    reason: str


def sensible_processes(machine: Machine) -> int:
    """Return how many training processes make sense here: one a GPU, else one, whose threads use all cores."""
    return max(1, sum(device.kind in ("cuda", "xpu") for device in machine.usable_devices))


def advise(
    machine: Machine, processes: int, *, batch_bytes: int | None = None, trainer: str = "standard"
) -> list[Advice]:
    """Return what to set for training in so many processes on this machine.

    Args:
        machine: its facts.
        processes: training processes here.
        batch_bytes: size of the largest batch that a loader worker hands over; None: a typical one.
        trainer: the configured one. One that is chosen for what it promises, as dp is, stays.
    """
    amp, reason = _amp(machine)
    is_ordinary = trainer in _ORDINARY
    return [
        _processes(machine, processes),
        _trainer(processes, amp, reason) if is_ordinary else Advice(_TRAINER, trainer, "it is chosen for what it does"),
        *(_precision(processes, amp, reason) if is_ordinary else ()),
        *(_tf32(machine) if is_ordinary else ()),
        *_threads(machine, processes),
        _workers(machine, processes, TYPICAL_BYTES if batch_bytes is None else batch_bytes),
    ]


def command_line(
    advice: Sequence[Advice],
    config: str = "FILE",
    *,
    configured: Mapping[str, str] = DEFAULTS,
    overrides: Mapping[str, Any] | None = None,
) -> str:
    """Return the command that sets all that is advised: `ml-train --config FILE reproducibility.num_threads=2 ...`.

    Args:
        advice: what `advise` gave.
        config: the configuration's file.
        configured: its values, by key; what it says already is not repeated.
        overrides: keys that were set by hand, which the command sets too unless it advises otherwise.
    """
    values, given = {each.key: each.value for each in advice}, dict(overrides or {})
    processes, trainer = values["--num_processes"], values[_TRAINER]
    words = ["ml-train", *(["--num_processes", str(processes)] if processes != 1 else []), "--config", config]
    if trainer != configured.get(_TRAINER) or _TRAINER in given:
        words += ["--trainer", str(trainer)]
    settings = {each.key: each.value for each in advice if "." in each.key}
    differing = {key for key, value in settings.items() if _text(value) != configured.get(key)}
    given |= {key: value for key, value in settings.items() if key in differing or key in given}
    words += [f"{key}={_text(value)}" for key, value in given.items() if key != _TRAINER]
    before = f"{PRECISION}={values[PRECISION]} " if values.get(PRECISION) else ""
    return before + shlex.join(words)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _processes(machine: Machine, processes: int) -> Advice:
    sensible, devices = sensible_processes(machine), machine.usable_devices
    if processes != sensible:
        reason = f"as asked for; one for each GPU, else one alone, would be {sensible}"
    elif processes > 1:
        reason = f"one for each of {processes} GPUs"
    elif devices:
        reason = "there is one GPU" if devices[0].kind != "mps" else "there is one GPU, and MPS takes one process"
    else:
        reason = "without a GPU: the threads of one process use every core already"
    return Advice("--num_processes", processes, reason)


def _amp(machine: Machine) -> tuple[str | None, str]:
    """Return the type that forward passes are quicker in than in float32, and a reason; None: there is none."""
    devices = machine.usable_devices
    if devices and devices[0].kind == "mps":
        return None, "autocast gains little on MPS"
    if devices:
        if all(device.bf16 for device in devices):
            return "bfloat16", "the GPU computes in bf16 by itself, at least twice as fast as in float32"
        if all(device.fp16 for device in devices):
            return "float16", "the GPU has fast float16 and no bf16; losses are scaled for it"
        return None, "the GPU has neither bf16 nor fast float16"
    if machine.processor.bf16:
        return "bfloat16", "the processor multiplies bf16 by itself"
    return None, "the processor has no bf16 of its own, and emulating it is slower than float32"


def _trainer(processes: int, amp: str | None, reason: str) -> Advice:
    if processes > 1:
        return Advice(_TRAINER, "accelerate", f"{processes} processes exchange gradients")
    return Advice(_TRAINER, "standard" if amp is None else "mixed_precision", reason)


def _precision(processes: int, amp: str | None, reason: str) -> Iterator[Advice]:
    """Yield the type, where one is of use: the trainer `accelerate` takes it from the environment."""
    if amp is not None and processes > 1:
        yield Advice(PRECISION, _SHORT[amp], f"{reason}; a variable of the environment, which accelerate reads")
    elif amp is not None:
        yield Advice(_AMP, amp, reason)


def _tf32(machine: Machine) -> Iterator[Advice]:
    devices = machine.usable_devices
    if devices and all(device.tf32 for device in devices):
        reason = "what stays in float32 runs several times as fast, with errors of about a thousandth"
        yield Advice(_TF32, True, reason)
    else:
        yield Advice(_TF32, None, "not every GPU here has TF32" if devices else "no GPU here has TF32")


def _threads(machine: Machine, processes: int) -> Iterator[Advice]:
    if machine.usable_devices:
        return
    yield Advice(
        _THREADS,
        max(1, machine.processor.usable // processes),
        f"{_shared_cores(machine, processes)}; stated, because on a CPU the number of threads is part of the bits",
    )


def _workers(machine: Machine, processes: int, batch_bytes: int) -> Advice:
    wish = automatic_workers(machine.processor.usable, local_processes=processes)
    free = machine.shared_memory.free if machine.shared_memory is not None else None
    workers, _ = fitting_workers(wish, PREFETCH, batch_bytes, free, processes)
    cores = _shared_cores(machine, processes)
    if workers < wish:
        return Advice(_WORKERS, workers, f"{cores} allow {wish}, but shared memory is small; auto finds it")
    if wish == 0:
        return Advice(_WORKERS, 0, f"{cores}: a core alone is better spent in the training itself")
    return Advice(_WORKERS, wish, f"{cores}, at most 8 each; auto chooses the same")


def _shared_cores(machine: Machine, processes: int) -> str:
    return f"{count_text(machine.processor.usable, 'core')} over {count_text(processes, 'process')}"
