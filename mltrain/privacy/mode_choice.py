"""Which way of clipping suits a model: both are tried on a real microbatch, and what they give is compared."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from mltrain.core.errors import ConfigError, shortened
from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.completeness import refuse_incomplete, unchanged

__all__ = ["Mode", "choose_mode"]

Mode = Literal["ghost", "hooks"]

_WARM_UP, _TIMED = 1, 3


@dataclass(frozen=True)
class _Trial:
    """Seconds of a step, or why there was none."""

    mode: Mode
    seconds: float = float("inf")
    problem: Exception | None = None


def choose_mode(model: nn.Module, losses_of: Callable[[], Tensor], max_grad_norm: float) -> tuple[Mode, str]:
    """Return the faster mode of those that work, and a sentence for the log.

    Nothing of the trial stays: gradients, buffers and generators of random numbers are as they were.

    Args:
        model: in training mode, on its device.
        losses_of: does a forward pass and returns the losses of a microbatch, shape (B,).
        max_grad_norm: the largest norm of an example's gradient.

    Raises:
        ConfigError: neither mode works, or some of the gradient escapes it.
    """
    trials = []
    for mode in cast(tuple[Mode, ...], get_args(Mode)):
        with unchanged(model):
            trials.append(_tried(model, losses_of, max_grad_norm, mode))
        _free_memory()
    best, other = sorted(trials, key=lambda trial: trial.seconds)
    if best.problem is not None:
        raise _neither(trials)
    refuse_incomplete(model, losses_of, best.mode)
    found = f"{best.mode} takes {_duration(best.seconds)} for a microbatch"
    if other.problem is None:
        return best.mode, f"Gradients of examples: {found}, {other.mode} {_duration(other.seconds)}."
    return best.mode, f"Gradients of examples: {found}; {other.mode} cannot do it ({_short(other.problem)})."


def _tried(model: nn.Module, losses_of: Callable[[], Tensor], max_grad_norm: float, mode: Mode) -> _Trial:
    clipped = None
    try:
        clipped = ClippedGradients(model, max_grad_norm, mode)
        seconds = []
        for _ in range(_WARM_UP + _TIMED):
            _wait_for_device()
            start = time.perf_counter()
            clipped.add(losses_of())
            _wait_for_device()
            seconds.append(time.perf_counter() - start)
        return _Trial(mode, statistics.median(seconds[_WARM_UP:]))
    except (ConfigError, NotImplementedError, MemoryError, RuntimeError) as error:
        # Its frames hold what filled the memory.
        return _Trial(mode, problem=error.with_traceback(None))
    finally:
        if clipped is not None:
            clipped.close()


def _neither(trials: list[_Trial]) -> ConfigError:
    for trial in trials:
        if isinstance(trial.problem, ConfigError) and trial.mode == "hooks":
            return trial.problem
    reasons = "; ".join(f"{trial.mode}: {_short(trial.problem)}" for trial in trials)
    return ConfigError(
        f"the gradients of this model's examples can be had in neither way ({reasons})",
        where="training.dp.grad_sample_mode",
        fix="Use another model, or a smaller training.dp.max_physical_batch_size where memory runs out.",
    )


def _short(problem: Exception | None) -> str:
    """Return the reason alone: what an error advises would be for those who have set the mode."""
    reason = problem.what if isinstance(problem, ConfigError) else problem
    return shortened(reason, 160) if reason is not None else ""


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
