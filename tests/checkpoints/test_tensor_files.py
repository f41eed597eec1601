"""Tensors that several processes wrote in parts are read whole, or in any other parts, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.checkpoints.parts import Place, part_file
from mltrain.checkpoints.tensor_files import TensorFiles, open_tensors
from mltrain.checkpoints.tensors import HostTensors
from mltrain.core.errors import CheckpointError


def shards(length: int, count: int) -> list[tuple[int, int]]:
    """Where each of `count` processes has its part of a first dimension, as FSDP2 divides it."""
    size = -(-length // count)
    return [(min(number * size, length), min((number + 1) * size, length)) for number in range(count)]


def write(folder: Path, tensor: torch.Tensor, count: int) -> None:
    for rank, (start, end) in enumerate(shards(len(tensor), count)):
        own, places = {}, {}
        if end > start:
            own["weight"] = tensor[start:end]
            offset = (start, *[0] * (tensor.dim() - 1))
            places["weight"] = Place(tuple(own["weight"].shape), offset, tuple(tensor.shape))
        if rank == 0:
            own["whole"] = torch.arange(3)
        HostTensors.copy_of(own, places=places).write(folder / part_file("model", rank, count))


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 9), width=st.integers(1, 3), writers=st.integers(1, 5), readers=st.integers(1, 5))
def test_any_number_reads_what_any_number_wrote(
    tmp_path_factory: pytest.TempPathFactory, length: int, width: int, writers: int, readers: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    tensor = torch.randn(length, width)
    write(folder, tensor, writers)
    with open_tensors(folder, "model") as files:
        assert sorted(files.names()) == ["weight", "whole"]
        assert torch.equal(files.read("weight"), tensor)
        assert torch.equal(files.read("whole"), torch.arange(3))
        for start, end in shards(length, readers):
            wanted = Place((end - start, width), (start, 0), (length, width))
            assert torch.equal(files._read("weight", wanted), tensor[start:end])


def test_a_part_that_is_missing_is_told(tmp_path: Path) -> None:
    write(tmp_path, torch.randn(6, 2), 3)
    (tmp_path / part_file("model", 1, 3)).unlink()
    with pytest.raises(CheckpointError, match="parts of weight are missing"), open_tensors(tmp_path, "model") as files:
        files.read("weight")


def test_no_file_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ema.safetensors: is missing"), open_tensors(tmp_path, "ema"):
        pass


def test_a_tensor_without_dimensions_is_read(tmp_path: Path) -> None:
    HostTensors.copy_of({"step": torch.tensor(7.0)}).write(tmp_path / "optimizer.safetensors")
    with open_tensors(tmp_path, "optimizer") as files:
        assert isinstance(files, TensorFiles)
        assert files.read("step", like=torch.zeros(3)) == 7.0
