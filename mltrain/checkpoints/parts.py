"""Tensors that are divided among processes: which part lies here, and how a process tells that its own is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch

from mltrain.core.files import read_json, write_json

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["Place", "is_divided", "note_part", "own_parts", "part_file", "part_like", "place_of", "wait_for_parts"]

# torch.distributed.tensor takes a second to import: only where such tensors are, which have imported it.

_POLL_S = 0.05
_HURRY_S = 10.0


@dataclass(frozen=True)
class Place:
    """Where a part lies in its tensor.

    shape: of the part.
    offset: of its first element, in each dimension.
    whole: shape of the tensor.
    """

    shape: tuple[int, ...]
    offset: tuple[int, ...]
    whole: tuple[int, ...]


def is_divided(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Return whether a tensor is divided among processes."""
    return hasattr(tensor, "device_mesh")


def place_of(tensor: DTensor) -> Place:
    """Return where this process's part of a tensor lies."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return Place(tuple(shape), tuple(offset), tuple(tensor.shape))


def own_parts(
    tensors: Mapping[str, torch.Tensor], *, is_main: bool
) -> tuple[dict[str, torch.Tensor], dict[str, Place]]:
    """Return what this process is to write of some tensors, and the places of those that are parts.

    Of what every process has whole the main one writes all, the others nothing.
    """
    own: dict[str, torch.Tensor] = {}
    places: dict[str, Place] = {}
    for name, tensor in tensors.items():
        if not is_divided(tensor):
            if is_main:
                own[name] = tensor
            continue
        local = tensor.to_local()
        if local.numel() and _is_first_copy(tensor):
            own[name], places[name] = local, place_of(tensor)
    return own, places


def part_like(local: torch.Tensor, like: DTensor) -> DTensor:
    """Return this process's part of a tensor as a tensor that is divided like another one of its shape."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        local.to(like.device),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def part_file(stem: str, rank: int, writers: int) -> str:
    """Return the name of the file that a process writes its part of some tensors into."""
    return f"{stem}.safetensors" if writers == 1 else f"{stem}-{rank + 1:05d}-of-{writers:05d}.safetensors"


def _is_first_copy(tensor: DTensor) -> bool:
    """Return whether no process before this one has the same part: dimensions of the mesh may repeat tensors."""
    coordinate = tensor.device_mesh.get_coordinate()
    assert coordinate is not None
    return all(place == 0 for place, how in zip(coordinate, tensor.placements, strict=True) if how.is_replicate())


def note_part(staging: Path, rank: int, files: Mapping[str, Any]) -> None:
    """Tell the main process that this one's files are on the disk.

    Args:
        staging: the folder of the checkpoint that is being written.
        rank: of this process.
        files: name -> size and sha256.
    """
    write_json(_note(staging, rank), files)


def wait_for_parts(staging: Path, ranks: Sequence[int], hurry: threading.Event) -> dict[str, Any]:
    """Return the files of other processes, name -> size and sha256, when all have told of theirs.

    Args:
        staging: the folder of the checkpoint that is being written.
        ranks: of these processes.
        hurry: once it is set they have seconds left.

    Raises:
        OSError: one of them has told nothing.
    """
    files: dict[str, Any] = {}
    missing, deadline = list(ranks), float("inf")
    while missing:
        rank = missing[-1]
        if _note(staging, rank).exists():
            files |= read_json(_note(staging, rank))
            _note(staging, rank).unlink()
            missing.pop()
        elif time.monotonic() > deadline:
            raise OSError(f"process {rank} has not written its part")
        elif not hurry.is_set():
            hurry.wait(_POLL_S)
        else:
            deadline = min(deadline, time.monotonic() + _HURRY_S)
            time.sleep(_POLL_S)
    return files


def _note(staging: Path, rank: int) -> Path:
    return staging / f"part-{rank:05d}.json"
