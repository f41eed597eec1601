"""The digest of a model: held to its definition by a second implementation."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import pytest
import torch

from mltrain.core.digest import model_digest

STATE = {
    "w": torch.arange(4.0).reshape(2, 2),
    "b": torch.tensor(True),
    "h": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "e": torch.empty(0, 3),
    "n": torch.tensor(7),
}


def by_definition(tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> str:
    """sha256 over name, dtype, shape and bytes of each tensor, in order of the names."""
    content = b""
    for name, (dtype, shape, data) in sorted(tensors.items()):
        content += f"{name}\0torch.{dtype}\0{shape}\0".encode() + data
    return hashlib.sha256(content).hexdigest()


def test_the_digest_never_changes() -> None:
    assert model_digest({}) == hashlib.sha256().hexdigest()
    assert model_digest(STATE) == "0abd0c5d1770c4c8e257d8b072334a72205adaa7288998fecab61560ace1760b"


def test_the_definition() -> None:
    assert model_digest(STATE) == by_definition(
        {
            "w": ("float32", (2, 2), struct.pack("<4f", 0, 1, 2, 3)),
            "b": ("bool", (), b"\x01"),
            "h": ("bfloat16", (2,), struct.pack("<ff", 1.5, -2.0)[2:4] + struct.pack("<f", -2.0)[2:]),
            "e": ("float32", (0, 3), b""),
            "n": ("int64", (), struct.pack("<q", 7)),
        }
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "int8", "uint8", "complex64"])
def test_every_type_has_its_bytes(dtype: str) -> None:
    array = (np.arange(6).reshape(2, 3) * 3 - 5).astype(dtype)
    assert model_digest({"x": torch.from_numpy(array)}) == by_definition({"x": (dtype, (2, 3), array.tobytes())})


def test_how_a_tensor_lies_in_memory_does_not_matter() -> None:
    square = torch.arange(12.0).reshape(3, 4)
    plain = model_digest({"x": square})
    assert model_digest({"x": square.t().contiguous().t()}) == plain
    assert model_digest({"x": torch.stack([square, square], dim=-1)[..., 0]}) == plain
    assert model_digest({"x": square.clone().requires_grad_()}) == plain
    assert model_digest({"x": torch.nn.Parameter(square)}) == plain
    channels_last = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert model_digest({"x": channels_last.to(memory_format=torch.channels_last)}) == model_digest(
        {"x": channels_last}
    )


def test_the_order_of_the_dict_does_not_matter() -> None:
    assert model_digest(dict(reversed(STATE.items()))) == model_digest(STATE)


@pytest.mark.parametrize(
    "change",
    [
        {"v": STATE["w"]},
        {"w": STATE["w"].double()},
        {"w": STATE["w"].reshape(4)},
        {"w": STATE["w"].nextafter(torch.tensor(9.0))},
        {"w": torch.tensor([[-0.0, 1], [2, 3]])},
        {"b": torch.tensor([True])},
        {"e": torch.empty(3, 0)},
    ],
    ids=["name", "dtype", "shape", "last bit", "sign of zero", "0-d", "empty shape"],
)
def test_every_difference_shows(change: dict[str, Any]) -> None:
    kept = {name: tensor for name, tensor in STATE.items() if not (name == "w" and "v" in change)}
    assert model_digest({**kept, **change}) != model_digest(STATE)


def test_batch_statistics_count_as_well_as_weights() -> None:
    model = torch.nn.BatchNorm1d(3)
    before = model_digest(model.state_dict())
    model(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert model_digest(model.state_dict()) != before
