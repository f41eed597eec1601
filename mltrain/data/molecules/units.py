"""Units of lengths and energies, as CODATA 2018 has them."""

from __future__ import annotations

__all__ = ["BOHR", "HARTREE"]

BOHR = 0.529177210903
"""1 Bohr in Angstrom."""
HARTREE = 627.5094740631
"""1 Hartree in kcal/mol (of 4184 J)."""
