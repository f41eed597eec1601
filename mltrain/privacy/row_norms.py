"""Norms and weighted sums of examples' gradients, precise enough to bound what an example adds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["joint_norms", "masked", "product_norms", "row_norms", "underflow", "weighted_sum"]

_BLOCK = 1024
# Squares below the least normal float32 number may be lost, each of at most this root.
_LEAST_ROOT = math.sqrt(torch.finfo(torch.float32).tiny)


def row_norms(row: Tensor) -> Tensor:
    """Return each example's 2-norm of a tensor (B, ...): never too small, also where squares underflow."""
    norms = _norms(row.flatten(1))
    return norms + underflow(row[0].numel()) if len(row) else norms


def underflow(count: int) -> float:
    """Return the most that a 2-norm of this many float32 elements may lack where their squares underflow."""
    return 2 * math.sqrt(count) * _LEAST_ROOT


def joint_norms(norms: list[Tensor]) -> Tensor:
    """Return each example's 2-norm over several parts, from its norms (B,) of the parts."""
    if len(norms) == 1:
        return norms[0]
    stacked = torch.stack(norms)
    exact = None if stacked.device.type == "mps" else torch.float64  # which has no float64
    found: Tensor = torch.linalg.vector_norm(stacked, dim=0, dtype=exact)
    return found.to(stacked.dtype)


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


def masked(values: Tensor, left_out: Tensor) -> Tensor:
    """Return values (B, ...) with zeros for the examples that are left out (B,): 0 times NaN would be NaN."""
    return values.masked_fill(left_out.view(-1, *[1] * (values.ndim - 1)), 0)


def product_norms(left: Tensor, right: Tensor) -> Tensor:
    """Return the Frobenius norms of the products left (B, O, T) @ right (B, T, I), shape (B,).

    Few positions T: from the inner products, |LR|^2 = <L'L, RR'>. Its terms may cancel, and a norm that is too small
    would let an example exceed its bound; so they are in float64, and the most that rounding can be off by is added.
    """
    positions = right.shape[1]
    if positions == 1:
        return row_norms(left) * row_norms(right)
    if 2 * positions**2 > left.shape[1] * right.shape[2] or left.device.type == "mps":  # which has no float64
        return row_norms(torch.bmm(left, right))
    exact_left, exact_right = left.double(), right.double()
    lefts = torch.bmm(exact_left.transpose(1, 2), exact_left)
    rights = torch.bmm(exact_right, exact_right.transpose(1, 2))
    lengths = lefts.diagonal(dim1=1, dim2=2).sqrt() * rights.diagonal(dim1=1, dim2=2).sqrt()
    sums = left.shape[1] + right.shape[2] + positions**2
    error = lengths.sum(1).square() * (sums * torch.finfo(torch.float64).eps)
    return ((lefts * rights).sum((1, 2)).clamp(min=0) + error).sqrt().to(left.dtype)
