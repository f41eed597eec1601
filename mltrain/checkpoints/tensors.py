"""Tensors as safetensors: nothing that could run code when it is loaded.

`Accelerator.save_state` writes pickles for all but the weights, prefixes the names of wrapped models (so a run could
not continue on another number of processes) and restores generators that this project does not need; hence these
functions. A file of parts says in its header where each lies in its tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mltrain.checkpoints.parts import Place
from mltrain.core.errors import CheckpointError

__all__ = ["HostTensors", "load_tensors", "save_tensors", "unreadable"]


@dataclass(frozen=True)
class HostTensors:
    """Named tensors in memory of their own, on the host.

    unique: name -> tensor, contiguous.
    aliases: further name -> the name in `unique` that it shares its tensor with (tied weights).
    places: names of parts of tensors -> where they lie in these.
    """

    unique: dict[str, torch.Tensor]
    aliases: dict[str, str]
    places: Mapping[str, Place] = field(default_factory=dict)

    @classmethod
    def copy_of(
        cls,
        tensors: Mapping[str, torch.Tensor],
        *,
        reuse: HostTensors | None = None,
        places: Mapping[str, Place] | None = None,
    ) -> HostTensors:
        """Return a copy; what fits of an earlier one is overwritten, to save its allocation."""
        old = {} if reuse is None else reuse.unique
        first: dict[tuple[Any, ...], str] = {}
        copies: dict[str, torch.Tensor] = {}
        aliases: dict[str, str] = {}
        for name, tensor in tensors.items():
            identity = (tensor.device, tensor.dtype, tensor.data_ptr(), tensor.shape, tensor.stride())
            original = first.setdefault(identity, name) if tensor.numel() else name
            if original != name:
                aliases[name] = original
                continue
            copies[name] = _room_for(tensor, old.get(name)).copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        return cls(copies, aliases, places or {})

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.nbytes for tensor in self.unique.values())

    def write(self, path: Path) -> None:
        """Write a safetensors file.

        Raises:
            OSError: the file cannot be written.
        """
        path.touch()
        mode = path.stat().st_mode
        try:
            save_file(self.unique, path, metadata=self._metadata())
        except SafetensorError as error:
            raise OSError(str(error)) from None
        # safetensors makes files that the owner alone can read, whatever the umask.
        path.chmod(mode)

    def _metadata(self) -> dict[str, str]:
        metadata = {"format": "pt", "aliases": json.dumps(self.aliases)}
        if self.places:
            metadata["places"] = json.dumps({name: vars(place) for name, place in self.places.items()})
        return metadata


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write named tensors. Names that share one tensor are written once and noted; raises OSError."""
    HostTensors.copy_of(tensors).write(path)


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
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """Return the error for a file of a checkpoint that cannot be read."""
    return CheckpointError(
        f"cannot be read ({error})", where=str(path), fix="Use another checkpoint; this one is damaged."
    )


def _room_for(tensor: torch.Tensor, old: torch.Tensor | None) -> torch.Tensor:
    if old is not None and old.shape == tensor.shape and old.dtype == tensor.dtype:
        return old
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
