"""The one-line form of a run from Python."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest
from mltrain.workflows.request import as_path
from mltrain.workflows.result import TrainResult
from mltrain.workflows.train import execute

__all__ = ["run_training"]

_CONFIGS = Path("configs")


def run_training(
    name: str | PathLike[str],
    *,
    num_epochs: int | None = None,
    batch_size: int | None = None,
    gradient_accumulation_steps: int | None = None,
    learning_rate: float | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: str | PathLike[str] | None = None,
    verbose: bool = True,
) -> TrainResult:
    """Train as a ready configuration says, with the settings that are changed most often as arguments.

    Args:
        name: a YAML file, or the name of one in the folder `configs`: "digits" means `configs/digits.yaml`.
        num_epochs, batch_size, gradient_accumulation_steps, learning_rate: beat the file; None leaves its values.
        overrides: any other key; beats the file and the arguments above.
        resume, verbose: see `mltrain.train`.
    """
    given = {
        "training.num_epochs": num_epochs,
        "training.batch_size": batch_size,
        "training.gradient_accumulation_steps": gradient_accumulation_steps,
        "optimizer.lr": learning_rate,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    merged = {**chosen, **overrides} if isinstance(overrides, Mapping) else overrides or chosen
    return execute(_config_file(name), merged, resume=resume, verbose=verbose, by_hand="run_training")


def _config_file(name: Any) -> Path:
    path = as_path("name", name, "a YAML file, or the name of one in configs/")
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    for suffix in (".yaml", ".yml"):
        if (candidate := _CONFIGS / f"{path}{suffix}").is_file():
            return candidate
    known = sorted(found.stem for found in _CONFIGS.glob("*.y*ml"))
    close = nearest(str(path), known)
    hint = f"Did you mean {close!r}? " if close else ""
    there = f"There are: {', '.join(known)}." if known else "Name a YAML file: there is no such folder here."
    raise ConfigError(f"no configuration {str(path)!r} in {_CONFIGS.resolve()}", where="name", fix=hint + there)
