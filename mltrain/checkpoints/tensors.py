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
    """Write named tensors. Names that share one tensor (tied weights) are written once and noted."""
    first: dict[tuple[int, int, torch.Size, tuple[int, ...]], str] = {}
    unique: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        identity = (tensor.data_ptr(), int(tensor.storage_offset()), tensor.shape, tensor.stride())
        original = first.setdefault(identity, name) if tensor.numel() else name
        if original == name:
            unique[name] = tensor.detach().cpu().contiguous().clone() if _is_view(tensor) else tensor.detach().cpu()
        else:
            aliases[name] = original
    save_file(unique, path, metadata={"format": "pt", "aliases": json.dumps(aliases)})


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read named tensors, onto the host."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"cannot be read ({error})", where=str(path), fix="Use another checkpoint; this one is damaged."
        ) from None
    return tensors | {name: tensors[original] for name, original in aliases.items()}


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
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    save_tensors(folder / "optimizer.safetensors", tensors)
    write_json(folder / "optimizer.json", {"class": type(optimizer).__name__, "group_sizes": sizes, "values": values})


def load_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Take back what `save_optimizer` wrote. Rates and other settings stay as the configuration has them now.

    Raises:
        CheckpointError: the state is of another optimizer, or of other parameters.
    """
    meta = read_json(folder / "optimizer.json")
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if meta["class"] != type(optimizer).__name__ or meta["group_sizes"] != sizes:
        raise CheckpointError(
            f"holds the state of {meta['class']} with {meta['group_sizes']} parameters, not of "
            f"{type(optimizer).__name__} with {sizes}",
            where=str(folder),
            fix="Resume with the configuration that the run was started with.",
        )
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in meta["values"].items()}
    for key, tensor in load_tensors(folder / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _is_view(tensor: torch.Tensor) -> bool:
    return not tensor.is_contiguous() or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
