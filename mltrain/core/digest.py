"""One value that says whether two models are equal to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

__all__ = ["model_digest"]


def model_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over name, dtype, shape and bytes of each tensor of a state dict, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
