"""A message-passing network that places charges around atoms: scalars and vectors on each atom, as PaiNN has them.

K. T. Schuett, O. T. Unke and M. Gastegger, "Equivariant message passing for the prediction of tensorial properties and
molecular spectra", 2021 (messages and updates). E. Boittier, D. Hoehn and M. Meuwly, "DCMNet", 2024 (the idea of
distributed charges predicted by an equivariant network). Molecules are dense: (B, A, ...) with masks.

Under a rotation scalars stay and vectors turn along, so charges stay and their displacements turn. This holds because
the three components of a vector are only ever scaled and added, by the same numbers for all three: layers on vectors
have no bias. Vectors stay in single precision under autocast, since rounding each component to 8 bits would depend on
the frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltrain.models.charge_geometry import Pairs, full_precision, neutralised, pairs_within, squashed
from mltrain.models.charge_models import register_charge_model

__all__ = ["ChargeNetwork"]

_SMALL = 1e-8  # the norm of a vector of 0 has no gradient


class _Message(nn.Module):
    """What each atom takes in from the others within the cutoff."""

    def __init__(self, features: int, radial: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(features, features), nn.Linear(features, 3 * features)
        self.filter = nn.Linear(radial, 3 * features)

    def forward(self, scalars: Tensor, vectors: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return new scalars (B, A, F) and vectors (B, A, 3, F)."""
        sent, filters = self.out(F.silu(self.hidden(scalars))), self.filter(pairs.radial)
        with full_precision(scalars):
            messages = filters.to(vectors.dtype) * pairs.cutoff[..., None] * sent.to(vectors.dtype)[:, None]
            to_scalars, along, passed = messages.chunk(3, dim=-1)
            pointing = torch.einsum("bijf,bijc->bicf", along, pairs.directions)
            handed_on = torch.einsum("bijf,bjcf->bicf", passed, vectors)
            return scalars + to_scalars.sum(dim=2), vectors + pointing + handed_on


class _Update(nn.Module):
    """What each atom makes of its own scalars and vectors."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mix = nn.Linear(features, 2 * features, bias=False)
        self.hidden, self.out = nn.Linear(2 * features, features), nn.Linear(features, 3 * features)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return new scalars (B, A, F) and vectors (B, A, 3, F)."""
        with full_precision(scalars):
            one, other = self.mix(vectors).chunk(2, dim=-1)
            lengths = (other.square().sum(dim=2) + _SMALL).sqrt()
            products = (one * other).sum(dim=2)
        gates = self.out(F.silu(self.hidden(torch.cat([scalars, lengths], dim=-1))))
        with full_precision(scalars):
            of_vectors, of_products, of_scalars = gates.to(vectors.dtype).chunk(3, dim=-1)
            return scalars + of_scalars + of_products * products, vectors + of_vectors[:, :, None] * one


@register_charge_model("painn")
class ChargeNetwork(nn.Module):
    """Charges around atoms from elements and positions: see `models.charge_models` for what goes in and comes out.

    Args:
        num_elements: chemical elements.
        n_dcm: K, charges around each atom.
        features: F, width of scalars and vectors.
        iterations: times that atoms exchange messages.
        radial_basis: functions of the distance.
        cutoff: distance from which on atoms exchange nothing, Angstrom.
        max_displacement: limit of the distance of a charge from its atom, Angstrom.
    """

    def __init__(
        self,
        num_elements: int,
        n_dcm: int,
        features: int,
        iterations: int,
        radial_basis: int,
        cutoff: float,
        max_displacement: float,
    ) -> None:
        super().__init__()
        self.radial_basis, self.cutoff, self.max_displacement = radial_basis, cutoff, max_displacement
        self.embedding = nn.Embedding(num_elements + 1, features)
        self.messages = nn.ModuleList(_Message(features, radial_basis) for _ in range(iterations))
        self.updates = nn.ModuleList(_Update(features) for _ in range(iterations))
        self.hidden, self.out = nn.Linear(features, features), nn.Linear(features, 2 * n_dcm)
        self.displace = nn.Linear(features, n_dcm, bias=False)

    def forward(self, elements: Tensor, positions: Tensor, total_charge: Tensor) -> tuple[Tensor, Tensor]:
        """Return charges (B, A, K) and their places (B, A, K, 3), both in the precision of the weights."""
        atoms = elements > 0
        pairs = pairs_within(positions, atoms, cutoff=self.cutoff, count=self.radial_basis)
        scalars = self.embedding(elements)
        vectors = scalars.new_zeros(*scalars.shape[:2], 3, scalars.shape[2])
        for message, update in zip(self.messages, self.updates, strict=True):
            scalars, vectors = message(scalars, vectors, pairs)
            scalars, vectors = update(scalars, vectors)
        found = self.out(F.silu(self.hidden(scalars)))
        with full_precision(positions):
            charges, gates = found.to(vectors.dtype).chunk(2, dim=-1)
            displacements = self.displace(vectors).transpose(2, 3) * gates[..., None]
            places = positions[:, :, None] + squashed(displacements, self.max_displacement)
            return neutralised(charges, atoms, total_charge), places
