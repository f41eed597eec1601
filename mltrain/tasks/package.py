"""A trained model as a folder of its own: weights as safetensors and all that is needed to use them without the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mltrain.checkpoints.tensors import load_tensors, save_tensors
from mltrain.core.digest import model_digest
from mltrain.core.errors import CheckpointError, ConfigError
from mltrain.core.files import read_json, write_json
from mltrain.core.plugins import load_plugins
from mltrain.core.version import __version__
from mltrain.models.lora import has_lora
from mltrain.models.private_layers import adapt_to_state
from mltrain.models.structure import built_class
from mltrain.tasks.base import TASKS, Predict, Task

__all__ = ["PackedModel", "load_model", "load_trained", "save_model"]

_WEIGHTS, _FACTS = "model.safetensors", "mltrain.json"
_AGAIN = "Copy the package again."


@dataclass(frozen=True)
class PackedModel:
    """A model read from a package.

    Attributes:
        module: in evaluation mode, on the CPU.
        predict: inputs of the task's kind (paths of images, say) -> one row of plain values each, by `module` with
            whatever weights it holds.
        facts: what the package says of itself.
    """

    module: nn.Module
    predict: Predict
    facts: Mapping[str, Any]


def save_model(
    folder: Path,
    task_name: str,
    task: Task,
    module: nn.Module,
    weights: Mapping[str, torch.Tensor] | None = None,
    *,
    adapted: bool = False,
) -> str:
    """Write a package and return the model's digest.

    transformers' models are also written in their own format, so that `from_pretrained` reads the same folder; not so
    those with other layers than transformers would build: `from_pretrained` would draw their weights anew.

    Args:
        folder: where it is written.
        task_name, task: what the model was trained for.
        module: the model.
        weights: its state dict in whole tensors; None: the module has them itself.
        adapted: its layers are those that `adapt_for_privacy` gives.
    """
    folder.mkdir(exist_ok=True)
    weights = module.state_dict() if weights is None else weights
    digest = model_digest(weights)
    facts = {"format": 1, "mltrain": __version__, "task": task_name, "model_digest": digest, **task.package()}
    pretrained_config: Any = getattr(module, "config", None)
    if hasattr(pretrained_config, "save_pretrained"):
        pretrained_config.architectures = [built_class(module).__name__]
        if classes := facts.get("classes"):
            pretrained_config.id2label = dict(enumerate(classes))
            pretrained_config.label2id = {name: index for index, name in enumerate(classes)}
        pretrained_config.save_pretrained(folder)
        # A model from a folder or from the hub is built again without either.
        facts["pretrained_config"] = read_json(folder / "config.json")
        if adapted or has_lora(module) or _is_ours(module):
            (folder / "config.json").unlink()
    if adapted:
        facts["adapted_for_privacy"] = True
    save_tensors(folder / _WEIGHTS, weights)
    task.write_package_files(folder)
    if task.config.plugins:
        facts["plugins"] = _portable(task.config.plugins)
    write_json(folder / _FACTS, facts)
    return digest


def load_model(folder: str | PathLike[str], plugins: str | Sequence[str] = ()) -> PackedModel:
    """Read the package in `folder` (the `model` folder of a run), or in a run folder.

    Args:
        folder: where the package is.
        plugins: Python files that register the package's task, where mltrain itself has none of that name. They are
            run; a file that the package names is never run for that.

    Raises:
        CheckpointError: there is none, or its weights are not those that it was written with.
        ConfigError: the task is not known, or cannot load a packed model.
    """
    if not isinstance(folder, str | PathLike):
        raise ConfigError(f"must be a path, is {folder!r}", where="load_model", fix="Name the model folder of a run.")
    path, facts = _read_facts(Path(folder))
    load_plugins([plugins] if isinstance(plugins, str) else plugins)
    name, files = facts["task"], list(facts.get("plugins", []))
    if name not in TASKS.names():
        raise ConfigError(
            f"the package is of the task {name!r}, which comes from a plugin",
            where=str(path),
            fix=f"Name its file: load_model({str(folder)!r}, plugins={files or ['my_task.py']!r}).",
        )
    return _filled(path, facts, *TASKS.get(name).unpack(facts))


def load_trained(folder: Path, task: Task) -> PackedModel:
    """Read a package whose task is at hand: the model is rebuilt by it where it cannot be unpacked without."""
    path, facts = _read_facts(folder)
    try:
        module, predict = task.unpack(facts)
    except ConfigError:
        module, predict = task.build_model(), _refuse
    return _filled(path, facts, module, predict)


def _refuse(_: Any) -> list[dict[str, Any]]:
    raise ConfigError("the task does not say how its inputs are read", where="predict", fix="Call the module itself.")


def _read_facts(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder that holds the package itself, and its facts."""
    if not (folder / _FACTS).is_file() and (folder / "model" / _FACTS).is_file():
        folder = folder / "model"
    if not (folder / _FACTS).is_file():
        raise CheckpointError(f"has no {_FACTS}", where=str(folder), fix="Name the model folder of a finished run.")
    try:
        facts: dict[str, Any] = read_json(folder / _FACTS)
        str(facts["task"]), str(facts["model_digest"])
    except (OSError, ValueError, LookupError, TypeError):
        raise CheckpointError("cannot be read", where=str(folder / _FACTS), fix=_AGAIN) from None
    return folder, facts


def _filled(path: Path, facts: Mapping[str, Any], module: nn.Module, predict: Predict) -> PackedModel:
    """Return the module with the package's weights in it, in evaluation mode."""
    try:
        state = load_tensors(path / _WEIGHTS)
    except CheckpointError as error:
        error.fix = _AGAIN  # it is no checkpoint that others stand beside
        raise
    if facts.get("adapted_for_privacy"):
        adapt_to_state(module, state)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"holds the weights of another model ({error})", where=str(path / _WEIGHTS), fix=_AGAIN
        ) from None
    if model_digest(module.state_dict()) != facts["model_digest"]:
        raise CheckpointError("the weights have changed", where=str(path / _WEIGHTS), fix=_AGAIN)
    module.eval()
    return PackedModel(module, predict, facts)


def _is_ours(module: nn.Module) -> bool:
    """Return whether a model's class is one that no other library has."""
    return built_class(module).__module__.startswith("mltrain.")


def _portable(plugins: Sequence[str]) -> list[str]:
    """Return plugin files as they were named; a package does not say where on its machine they lay."""
    return [Path(name).name if Path(name).is_absolute() else name for name in plugins]
