"""Tensors and optimizer state come back as they were, or with one line that says why not."""

from __future__ import annotations

import json
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mltrain.checkpoints.optimizer_state import OPTIMIZER_TENSORS, OPTIMIZER_VALUES, load_optimizer, optimizer_state
from mltrain.checkpoints.tensors import HostTensors, load_tensors, save_tensors
from mltrain.core.errors import CheckpointError
from mltrain.core.files import write_json

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int16,
    torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.complex64,
]  # fmt: skip
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
    "fused adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.01),
    "sgd with momentum": lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, momentum=0.9, centered=True),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.01),
    "nadam": lambda groups: torch.optim.NAdam(groups, lr=0.01),
    "asgd": lambda groups: torch.optim.ASGD(groups, lr=0.01),
}


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal dtype, shape and bits."""
    raw = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*raw)


def round_trip(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    save_tensors(path, tensors)
    return load_tensors(path)


def save_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    tensors, values = optimizer_state(optimizer)
    save_tensors(folder / f"{OPTIMIZER_TENSORS}.safetensors", tensors)
    write_json(folder / OPTIMIZER_VALUES, values)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, 1.0, 3.0, 7.0]).to(dtype)
    tensors = {"vector": values, "scalar": values[2].clone(), "empty": values[:0], "hollow": values[:0].reshape(0, 5)}
    loaded = round_trip(tmp_path / "a.safetensors", tensors)
    assert loaded.keys() == tensors.keys()
    assert all(same(loaded[name], tensors[name]) for name in tensors)


def test_values_that_are_not_finite_come_back(tmp_path: Path) -> None:
    tensor = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    assert same(round_trip(tmp_path / "a.safetensors", {"a": tensor})["a"], tensor)


def test_views_and_strides_come_back_as_values(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "base": base,
        "flat": base.view(-1),
        "transposed": base.T,
        "column": base[:, 2],
        "overlapping": base[1:3],
        "bits": base.view(torch.int32),
        "expanded": torch.ones(1).expand(3),
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": nn.Parameter(torch.randn(3)),
    }
    loaded = round_trip(tmp_path / "a.safetensors", tensors)
    assert all(same(loaded[name], tensors[name].detach()) for name in tensors)


def test_tied_weights_are_written_once_and_come_back_tied(tmp_path: Path) -> None:
    weight = torch.randn(256, 256)
    path = tmp_path / "a.safetensors"
    loaded = round_trip(path, {"embedding": weight, "head": weight, "other": weight.clone()})
    assert path.stat().st_size < 2.1 * weight.nbytes
    assert loaded["head"].data_ptr() == loaded["embedding"].data_ptr() != loaded["other"].data_ptr()
    assert all(same(tensor, weight) for tensor in loaded.values())


def test_saving_does_not_touch_what_is_saved(tmp_path: Path) -> None:
    module = nn.Linear(3, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loaded = round_trip(tmp_path / "a.safetensors", module.state_dict())
    loaded["weight"].zero_()
    assert all(same(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_the_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(2)})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_tensors(tmp_path / "nowhere" / "a.safetensors", {"a": torch.zeros(2)})
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OSError, match="rror"):
        save_tensors(tmp_path / "folder.safetensors", {"a": torch.zeros(2)})


def test_every_truncation_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.randn(20), "b": torch.zeros(3, dtype=torch.bool)})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError) as caught:
            load_tensors(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("aliases", ['{"b": "gone"}', "[1]", "{", '"text"'])
def test_damaged_aliases_are_told(tmp_path: Path, aliases: str) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors", metadata={"aliases": aliases})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_tensors(tmp_path / "a.safetensors")


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def optimizer_of(module: nn.Module, name: str) -> torch.optim.Optimizer:
    """Three groups: a weight, two biases at a rate of their own, and a weight that never gets a gradient."""
    first, _, last = module
    idle = nn.Parameter(torch.zeros(3))
    return OPTIMIZERS[name](
        [{"params": [first.weight]}, {"params": [first.bias, last.bias], "lr": 0.1}, {"params": [last.weight, idle]}]
    )


def take_steps(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for seed in range(count):
        inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()


def assert_same_state(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert same(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_state(one[key], other[key])
    else:
        assert one == other


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_state_equals_torchs_own_and_continues_alike(tmp_path: Path, name: str) -> None:
    module, twin = model(), model()
    optimizer, continued = optimizer_of(module, name), optimizer_of(twin, name)
    take_steps(module, optimizer, 3)
    twin.load_state_dict(module.state_dict())
    save_optimizer(tmp_path, optimizer)
    load_optimizer(tmp_path, continued)
    assert_same_state(optimizer.state_dict(), continued.state_dict())
    take_steps(module, optimizer, 2)
    take_steps(twin, continued, 2)
    assert all(same(twin.state_dict()[key], value) for key, value in module.state_dict().items())


def test_rates_stay_as_the_optimizer_has_them(tmp_path: Path) -> None:
    module = model()
    save_optimizer(tmp_path, optimizer_of(module, "adamw"))
    optimizer = optimizer_of(module, "adamw")
    optimizer.param_groups[1]["lr"] = 0.5
    load_optimizer(tmp_path, optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.5, 0.01]


def test_the_state_of_another_optimizer_or_model_is_refused(tmp_path: Path) -> None:
    module = model()
    optimizer = optimizer_of(module, "adamw")
    take_steps(module, optimizer, 1)
    save_optimizer(tmp_path, optimizer)
    with pytest.raises(CheckpointError, match=r"state of AdamW .* not of SGD"):
        load_optimizer(tmp_path, optimizer_of(model(), "sgd"))
    with pytest.raises(CheckpointError, match=r"with \[1, 2, 2\] parameters, not of AdamW with \[4\]"):
        load_optimizer(tmp_path, torch.optim.AdamW(model().parameters()))
    wider = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 2))
    with pytest.raises(CheckpointError, match="of other shapes"):
        load_optimizer(tmp_path, optimizer_of(wider, "adamw"))


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"class": "AdamW", "values": 3}', "\x00"])
def test_a_damaged_optimizer_file_is_told(tmp_path: Path, content: str | None) -> None:
    optimizer = torch.optim.AdamW(model().parameters())
    save_optimizer(tmp_path, optimizer)
    if content is None:
        (tmp_path / "optimizer.json").unlink()
    else:
        (tmp_path / "optimizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"optimizer\.json: cannot be read"):
        load_optimizer(tmp_path, optimizer)


def test_nothing_in_a_checkpoint_is_a_pickle(train_vectors: Any) -> None:
    folder = train_vectors({"training.num_epochs": 1, "training.ema.enabled": True}).folder
    files = [path for kind in ("checkpoints/step-*/*", "model/*") for path in folder.glob(kind)]
    assert len(files) >= 8
    for path in files:
        content = path.read_bytes()
        assert path.suffix in (".json", ".safetensors")
        assert not content.startswith(b"PK"), "torch.save writes a zip archive"
        if path.suffix == ".json":
            json.loads(content)
        else:
            load_tensors(path)
        with pytest.raises((ValueError, IndexError)):
            for _ in pickletools.genops(content):
                pass


def test_a_copy_stands_apart_and_its_memory_is_used_again() -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    first = HostTensors.copy_of({"a": weight, "tied": weight, "b": torch.ones(4)})
    assert first.aliases == {"tied": "a"}
    assert first.num_bytes == (6 + 4) * 4
    weight.add_(1)
    assert torch.equal(first.unique["a"], weight - 1)
    second = HostTensors.copy_of({"a": weight, "b": torch.ones(5)}, reuse=first)
    assert second.unique["a"].data_ptr() == first.unique["a"].data_ptr()
    assert torch.equal(second.unique["a"], weight)
    assert second.unique["b"].shape == (5,)
