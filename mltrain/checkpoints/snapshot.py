"""A copy of a run's state in memory, apart from the run: it can be written while training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mltrain.checkpoints.parts import Place
from mltrain.checkpoints.tensors import HostTensors
from mltrain.core.files import json_text, write_text

__all__ = ["Snapshot", "SnapshotBuffers"]


class SnapshotBuffers:
    """Memory for copies, kept from one to the next: a new allocation costs about as much as the copy itself."""

    def __init__(self) -> None:
        self._files: dict[str, HostTensors] = {}

    def copy(
        self, name: str, tensors: Mapping[str, torch.Tensor], places: Mapping[str, Place] | None = None
    ) -> HostTensors:
        """Return a copy of tensors on the host. It is overwritten by the next copy of this name.

        Args:
            name: of the file that they are for.
            tensors: whole ones, and parts of such.
            places: of the parts.
        """
        self._files[name] = copied = HostTensors.copy_of(tensors, reuse=self._files.get(name), places=places)
        return copied


class Snapshot:
    """The files of a checkpoint that is not written yet.

    Args:
        tensors: file name -> its tensors.
        values: file name -> JSON values; taken in as text at once, so that later changes do not show.
    """

    def __init__(self, tensors: Mapping[str, HostTensors], values: Mapping[str, Any]) -> None:
        self._tensors = dict(tensors)
        self._texts = {name: json_text(value) for name, value in values.items()}

    @property
    def num_bytes(self) -> int:
        """The least that the files need on the disk."""
        return sum(file.num_bytes for file in self._tensors.values()) + sum(map(len, self._texts.values()))

    def write(self, folder: Path) -> list[Path]:
        """Write the files and return them; raises OSError where one cannot be written."""
        for name, tensors in self._tensors.items():
            tensors.write(folder / name)
        for name, text in self._texts.items():
            write_text(folder / name, text)
        return [folder / name for name in (*self._tensors, *self._texts)]
