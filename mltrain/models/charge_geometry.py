"""What charge models compute of positions: pairs of atoms, radial functions of their distances, and potentials.

All of it in single precision, whatever autocast says: bfloat16 keeps 8 bits, two atoms 1 Angstrom apart would lie
0.004 Angstrom from where they are.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from mltrain.data.molecules.units import BOHR, HARTREE

__all__ = ["Pairs", "full_precision", "neutralised", "pairs_within", "potential_of", "squashed"]


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast on the device of a tensor."""
    return torch.autocast(like.device.type, enabled=False)


@dataclass(frozen=True)
class Pairs:
    """All pairs (i, j) of the atoms of each molecule; those that do not meet have a cutoff of 0.

    Attributes:
        directions: unit vectors from i to j, (B, A, A, 3).
        radial: functions of the distance, (B, A, A, K).
        cutoff: how much of j reaches i, 1 at distance 0 and 0 from the cutoff on, (B, A, A).
    """

    directions: Tensor
    radial: Tensor
    cutoff: Tensor


def pairs_within(positions: Tensor, atoms: Tensor, *, cutoff: float, count: int) -> Pairs:
    """Return the pairs of atoms within a cutoff.

    The radial functions are sin(n pi r / cutoff) / r for n from 1 (Gasteiger et al. 2020, "Directional message passing
    for molecular graphs"), the cutoff is half a cosine (Behler 2011).

    Args:
        positions: Angstrom, (B, A, 3).
        atoms: which places hold an atom, (B, A).
        cutoff: Angstrom.
        count: K, the number of radial functions.
    """
    with full_precision(positions):
        differences = positions[:, None, :] - positions[:, :, None]
        others = ~torch.eye(positions.shape[1], dtype=torch.bool, device=positions.device)
        squares = differences.square().sum(dim=-1)
        met = atoms[:, :, None] & atoms[:, None, :] & others & (squares < cutoff**2)
        # A distance of 1 where there is no pair: the root of 0 has no gradient, and a ratio of 0 and 0 no value.
        distances = torch.where(met, squares, 1.0).sqrt()
        numbers = torch.arange(1, count + 1, dtype=distances.dtype, device=distances.device)
        phases = distances[..., None] * (numbers * (math.pi / cutoff))
        return Pairs(
            directions=differences / distances[..., None],
            radial=phases.sin() * (math.sqrt(2.0 / cutoff) / distances[..., None]),
            cutoff=torch.where(met, 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0), 0.0),
        )


def neutralised(charges: Tensor, atoms: Tensor, total: Tensor) -> Tensor:
    """Return charges (B, A, K) shifted alike, so that those of each molecule add up to its total charge (B,).

    Places without an atom get none.
    """
    mask = atoms[:, :, None].to(charges.dtype)
    # Twice: what rounding leaves of a large excess is a small one.
    for _ in range(2):
        charges = charges * mask
        excess = charges.sum(dim=(1, 2)) - total
        charges = charges - (excess / (mask.sum(dim=(1, 2)) * charges.shape[2]))[:, None, None]
    return charges * mask


def squashed(vectors: Tensor, limit: float) -> Tensor:
    """Return vectors (..., 3) of the same directions, none longer than the limit."""
    return vectors * (limit * torch.rsqrt(1.0 + vectors.square().sum(dim=-1, keepdim=True)))


def potential_of(charges: Tensor, places: Tensor, points: Tensor, *, atoms: Tensor, point_mask: Tensor) -> Tensor:
    """Return the potential of point charges in kcal/mol/e, (B, G): the sum of q / |r - place|; 0 at masked points.

    Args:
        charges: e, (B, A, K).
        places: Angstrom, (B, A, K, 3).
        points: Angstrom, (B, G, 3).
        atoms: which places hold an atom, (B, A).
        point_mask: which points there are, (B, G).
    """
    with full_precision(charges):
        batch, count, each = charges.shape
        sources = places.reshape(batch, count * each, 3)
        real = atoms[:, :, None].expand(charges.shape).reshape(batch, count * each)
        squares = (points[:, :, None] - sources[:, None]).square().sum(dim=-1)
        inverse = torch.where(point_mask[:, :, None] & real[:, None], squares, 1.0).rsqrt()
        potential = (inverse * charges.reshape(batch, 1, count * each)).sum(dim=-1)
        return torch.where(point_mask, potential * (HARTREE * BOHR), 0.0)
