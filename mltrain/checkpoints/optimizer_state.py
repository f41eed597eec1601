"""The state of an optimizer: its tensors, and the rest as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mltrain.checkpoints.tensor_files import open_tensors
from mltrain.checkpoints.tensors import unreadable
from mltrain.core.errors import CheckpointError
from mltrain.core.files import read_json

__all__ = ["OPTIMIZER_TENSORS", "OPTIMIZER_VALUES", "load_optimizer", "optimizer_state"]

OPTIMIZER_TENSORS = "optimizer"
OPTIMIZER_VALUES = "optimizer.json"


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state as named tensors, and as JSON values for what is none.

    The tensors are to be written as `OPTIMIZER_TENSORS`, the values into the file `OPTIMIZER_VALUES`.
    """
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                values.setdefault(str(index), {})[name] = value
    return tensors, {**_identity(optimizer), "values": values}


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Take back a state from the files of a folder. Rates and other settings stay as the configuration has them.

    Raises:
        CheckpointError: the state is damaged, of another optimizer, or of other parameters.
    """
    path = folder / OPTIMIZER_VALUES
    try:
        meta = read_json(path)
        state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in meta["values"].items()}
        saved = {name: meta[name] for name in ("class", "shapes")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable(path, error) from None
    if saved != _identity(optimizer):
        raise _other_optimizer(folder, saved, _identity(optimizer))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with open_tensors(folder, OPTIMIZER_TENSORS) as files:
        for key in files.names():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = files.read(key, like=parameters[int(index)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _identity(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what must be equal for a state to fit: the class, and the shapes of each group's parameters."""
    shapes = [[list(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
    return {"class": getattr(optimizer, "kind", type(optimizer).__name__), "shapes": shapes}


def _other_optimizer(folder: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> CheckpointError:
    counts = [[len(group) for group in identity["shapes"]] for identity in (saved, given)]
    difference = " of other shapes" if counts[0] == counts[1] and saved["class"] == given["class"] else ""
    return CheckpointError(
        f"holds the state of {saved['class']} with {counts[0]} parameters, not of {given['class']} with {counts[1]}"
        f"{difference}",
        where=str(folder),
        fix="Resume with the configuration that the run was started with.",
    )
