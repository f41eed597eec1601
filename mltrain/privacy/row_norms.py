"""Norms and weighted sums of examples' gradients, precise enough to bound what an example adds."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["product_squares", "sum_of_squares", "weighted_sum"]

_BLOCK = 1024


def sum_of_squares(rows: list[Tensor]) -> Tensor:
    """Return each example's squared 2-norm over several tensors (B, ...)."""
    return torch.stack([_norms(row.flatten(1)).square() for row in rows]).sum(0)


def _norms(rows: Tensor) -> Tensor:
    """Return the 2-norm of each row (B, N), block by block: over millions of elements rounding adds up to 1e-4."""
    whole = rows.shape[1] - rows.shape[1] % _BLOCK
    norms = rows
    if whole > 4 * _BLOCK:
        norms = torch.linalg.vector_norm(rows[:, :whole].reshape(len(rows), -1, _BLOCK), dim=2)
        if whole < rows.shape[1]:
            norms = torch.cat([norms, torch.linalg.vector_norm(rows[:, whole:], dim=1, keepdim=True)], dim=1)
    found: Tensor = torch.linalg.vector_norm(norms, dim=1)
    return found


def weighted_sum(factors: Tensor, row: Tensor) -> Tensor:
    """Return the sum over the examples of factors (B,) times row (B, ...)."""
    return (factors @ row.flatten(1)).view(row.shape[1:])


def product_squares(left: Tensor, right: Tensor) -> Tensor:
    """Return the squared Frobenius norms of the products left (B, O, T) @ right (B, T, I), shape (B,).

    Few positions T: from the inner products, |LR|^2 = <L'L, RR'>. Its terms may cancel, and a norm that is too small
    would let an example exceed its bound; so they are in float64, and the most that rounding can be off by is added.
    """
    positions = right.shape[1]
    if positions == 1:
        return left.square().sum((1, 2)) * right.square().sum((1, 2))
    if 2 * positions**2 > left.shape[1] * right.shape[2] or left.device.type == "mps":  # which has no float64
        return sum_of_squares([torch.bmm(left, right)])
    exact_left, exact_right = left.double(), right.double()
    lefts = torch.bmm(exact_left.transpose(1, 2), exact_left)
    rights = torch.bmm(exact_right, exact_right.transpose(1, 2))
    lengths = lefts.diagonal(dim1=1, dim2=2).sqrt() * rights.diagonal(dim1=1, dim2=2).sqrt()
    sums = left.shape[1] + right.shape[2] + positions**2
    error = lengths.sum(1).square() * (sums * torch.finfo(torch.float64).eps)
    return ((lefts * rights).sum((1, 2)).clamp(min=0) + error).to(left.dtype)
