"""Named tensors of a checkpoint, wherever their parts are: read whole, or as a process of any number needs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from mltrain.checkpoints.parts import Place, is_divided, part_like, place_of
from mltrain.checkpoints.tensors import unreadable
from mltrain.core.errors import CheckpointError

__all__ = ["TensorFiles", "open_tensors"]


class TensorFiles:
    """The tensors of one file, or of those that several processes wrote.

    Args:
        files: open files of safetensors.
    """

    def __init__(self, files: list[Any]) -> None:
        self._parts: dict[str, list[tuple[Any, Place]]] = {}
        self._aliases: dict[str, str] = {}
        for file in files:
            metadata = file.metadata() or {}
            self._aliases |= json.loads(metadata.get("aliases", "{}"))
            places = json.loads(metadata.get("places", "{}"))
            for name in file.keys():  # noqa: SIM118 (not a dict)
                self._parts.setdefault(name, []).append((file, _place(file, name, places.get(name))))

    def names(self) -> list[str]:
        """Return all names; several may mean one tensor."""
        return [*self._parts, *self._aliases]

    def read(self, name: str, like: torch.Tensor | None = None) -> torch.Tensor:
        """Return a tensor, on the host; or divided among the processes as `like` is, if that has its shape."""
        name = self._aliases.get(name, name)
        whole = self._parts[name][0][1].whole
        if like is not None and is_divided(like) and tuple(like.shape) == whole:
            return part_like(self._read(name, place_of(like)), like)
        return self._read(name, Place(whole, (0,) * len(whole), whole))

    def _read(self, name: str, wanted: Place) -> torch.Tensor:
        parts = self._parts[name]
        if len(parts) == 1 and parts[0][1] == wanted:
            tensor: torch.Tensor = parts[0][0].get_tensor(name)
            return tensor
        gathered: torch.Tensor | None = None
        missing = torch.Size(wanted.shape).numel()
        for file, place in parts:
            starts = [max(a, b) for a, b in zip(place.offset, wanted.offset, strict=True)]
            ends = [
                min(a + n, b + m)
                for a, n, b, m in zip(place.offset, place.shape, wanted.offset, wanted.shape, strict=True)
            ]
            if gathered is not None and any(end <= start for start, end in zip(starts, ends, strict=True)):
                continue
            source = tuple(slice(s - o, max(s, e) - o) for s, e, o in zip(starts, ends, place.offset, strict=True))
            found = file.get_slice(name)[source] if source else file.get_tensor(name)
            if gathered is None:
                gathered = torch.empty(wanted.shape, dtype=found.dtype)
            if found.numel():
                target = tuple(slice(s - o, e - o) for s, e, o in zip(starts, ends, wanted.offset, strict=True))
                gathered[target] = found
                missing -= found.numel()
        if gathered is None or missing:
            raise LookupError(f"parts of {name} are missing")
        return gathered


@contextmanager
def open_tensors(folder: Path, stem: str) -> Iterator[TensorFiles]:
    """Open the tensors that were written as `stem`, by one process or by several.

    Raises:
        CheckpointError: there are none, or they are damaged; also where that shows only in the block.
    """
    paths = sorted([*folder.glob(f"{stem}.safetensors"), *folder.glob(f"{stem}-*-of-*.safetensors")])
    if not paths:
        raise CheckpointError(
            "is missing", where=str(folder / f"{stem}.safetensors"), fix="Resume with the configuration of the run."
        )
    with ExitStack() as stack:
        try:
            yield TensorFiles([stack.enter_context(safe_open(path, framework="pt", device="cpu")) for path in paths])
        except (OSError, SafetensorError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise unreadable(paths[0], error) from None


def _place(file: Any, name: str, told: dict[str, list[int]] | None) -> Place:
    if told is not None:
        return Place(*(tuple(told[key]) for key in ("shape", "offset", "whole")))
    shape = tuple(file.get_slice(name).get_shape())
    return Place(shape, (0,) * len(shape), shape)
