"""A trained model as a folder of its own: weights as safetensors and all that is needed to use them without the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mltrain.checkpoints.tensors import load_tensors, save_tensors
from mltrain.core.digest import model_digest
from mltrain.core.errors import CheckpointError
from mltrain.core.files import read_json, write_json
from mltrain.core.version import __version__
from mltrain.tasks.base import TASKS, Task

__all__ = ["PackedModel", "load_model", "save_model"]

_WEIGHTS, _FACTS = "model.safetensors", "mltrain.json"
_AGAIN = "Copy the package again."


@dataclass(frozen=True)
class PackedModel:
    """A model read from a package.

    Attributes:
        module: in evaluation mode, on the CPU.
        predict: inputs of the task's kind (paths of images, say) -> one row of plain values each.
        facts: what the package says of itself.
    """

    module: nn.Module
    predict: Callable[[Sequence[Any]], list[dict[str, Any]]]
    facts: Mapping[str, Any]


def save_model(folder: Path, task_name: str, task: Task, module: nn.Module) -> str:
    """Write a package and return the model's digest.

    transformers' models are also written in their own format, so that `from_pretrained` reads the same folder.
    """
    folder.mkdir(exist_ok=True)
    state = module.state_dict()
    digest = model_digest(state)
    pretrained_config: Any = getattr(module, "config", None)
    if hasattr(pretrained_config, "save_pretrained"):
        pretrained_config.architectures = [type(module).__name__]
        if classes := task.package().get("classes"):
            pretrained_config.id2label = dict(enumerate(classes))
            pretrained_config.label2id = {name: index for index, name in enumerate(classes)}
        pretrained_config.save_pretrained(folder)
    save_tensors(folder / _WEIGHTS, state)
    facts = {"format": 1, "mltrain": __version__, "task": task_name, "model_digest": digest, **task.package()}
    write_json(folder / _FACTS, facts)
    return digest


def load_model(folder: str | Path) -> PackedModel:
    """Read the package in `folder` (the `model` folder of a run), or in a run folder.

    Raises:
        CheckpointError: there is none, or its weights are not those that it was written with.
    """
    path = Path(folder)
    if not (path / _FACTS).is_file() and (path / "model" / _FACTS).is_file():
        path = path / "model"
    if not (path / _FACTS).is_file():
        raise CheckpointError(f"has no {_FACTS}", where=str(path), fix="Name the model folder of a finished run.")
    try:
        facts = read_json(path / _FACTS)
        name, digest = facts["task"], facts["model_digest"]
    except (OSError, ValueError, LookupError, TypeError):
        raise CheckpointError("cannot be read", where=str(path / _FACTS), fix=_AGAIN) from None
    module, predict = TASKS.get(name).unpack(facts)
    try:
        module.load_state_dict(load_tensors(path / _WEIGHTS))
    except RuntimeError as error:
        raise CheckpointError(
            f"holds the weights of another model ({error})", where=str(path / _WEIGHTS), fix=_AGAIN
        ) from None
    if model_digest(module.state_dict()) != digest:
        raise CheckpointError("the weights have changed", where=str(path / _WEIGHTS), fix=_AGAIN)
    module.eval()
    return PackedModel(module, predict, facts)
