"""Tensors and optimizer state as safetensors and JSON: nothing that could run code when it is loaded.

`Accelerator.save_state` writes pickles for all but the weights, prefixes the names of wrapped models (so a run could
not continue on another number of processes) and restores generators that this project does not need; hence these
functions for models whose weights are whole on each process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mltrain.core.errors import CheckpointError
from mltrain.core.files import read_json, write_json

__all__ = ["load_optimizer", "load_tensors", "save_optimizer", "save_tensors"]


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors. Names that share one tensor (tied weights) are written once and noted.

    Raises:
        OSError: the file cannot be written.
    """
    first: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    unique: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.device, tensor.dtype, tensor.data_ptr(), tensor.shape, tensor.stride())
        original = first.setdefault(identity, name) if tensor.numel() else name
        if original != name:
            aliases[name] = original
            continue
        host = tensor.detach().cpu()
        # safetensors refuses tensors that overlap in memory.
        if _is_view(host) or host.untyped_storage().data_ptr() in storages:
            host = host.clone(memory_format=torch.contiguous_format)
        if host.numel():
            storages.add(host.untyped_storage().data_ptr())
        unique[name] = host
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(unique, path, metadata={"format": "pt", "aliases": json.dumps(aliases)})
    except SafetensorError as error:
        raise OSError(str(error)) from None
    # safetensors makes files that the owner alone can read, whatever the umask.
    path.chmod(mode)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read named tensors, onto the host.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
        return tensors | {name: tensors[original] for name, original in aliases.items()}
    except (OSError, SafetensorError, ValueError, LookupError, AttributeError) as error:
        raise _unreadable(path, error) from None


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Write the state of an optimizer: tensors as `optimizer.safetensors`, the rest as `optimizer.json`."""
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                values.setdefault(str(index), {})[name] = value
    save_tensors(folder / "optimizer.safetensors", tensors)
    write_json(folder / "optimizer.json", {**_identity(optimizer), "values": values})


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Take back what `save_optimizer` wrote. Rates and other settings stay as the configuration has them now.

    Raises:
        CheckpointError: the state is damaged, of another optimizer, or of other parameters.
    """
    path = folder / "optimizer.json"
    try:
        meta = read_json(path)
        state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in meta["values"].items()}
        saved = {name: meta[name] for name in ("class", "shapes")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from None
    if saved != _identity(optimizer):
        raise _other_optimizer(folder, saved, _identity(optimizer))
    for key, tensor in load_tensors(folder / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _identity(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what must be equal for a state to fit: the class, and the shapes of each group's parameters."""
    shapes = [[list(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
    return {"class": type(optimizer).__name__, "shapes": shapes}


def _other_optimizer(folder: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> CheckpointError:
    counts = [[len(group) for group in identity["shapes"]] for identity in (saved, given)]
    difference = " of other shapes" if counts[0] == counts[1] and saved["class"] == given["class"] else ""
    return CheckpointError(
        f"holds the state of {saved['class']} with {counts[0]} parameters, not of {given['class']} with {counts[1]}"
        f"{difference}",
        where=str(folder),
        fix="Resume with the configuration that the run was started with.",
    )


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"cannot be read ({error})", where=str(path), fix="Use another checkpoint; this one is damaged."
    )


def _is_view(tensor: torch.Tensor) -> bool:
    return not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
