"""The chemical elements that molecules may consist of, with their sizes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ELEMENTS", "Element", "formula"]


class Element(NamedTuple):
    """A chemical element.

    Attributes:
        symbol: as in the periodic table.
        covalent_radius: in Angstrom (Cordero et al. 2008, "Covalent radii revisited").
        vdw_radius: van der Waals radius in Angstrom (Bondi 1964, "van der Waals volumes and radii"; Be, B, Al and Ca:
            Mantina et al. 2009).
    """

    symbol: str
    covalent_radius: float
    vdw_radius: float


ELEMENTS: dict[int, Element] = {
    1: Element("H", 0.31, 1.20),
    2: Element("He", 0.28, 1.40),
    3: Element("Li", 1.28, 1.82),
    4: Element("Be", 0.96, 1.53),
    5: Element("B", 0.84, 1.92),
    6: Element("C", 0.76, 1.70),
    7: Element("N", 0.71, 1.55),
    8: Element("O", 0.66, 1.52),
    9: Element("F", 0.57, 1.47),
    10: Element("Ne", 0.58, 1.54),
    11: Element("Na", 1.66, 2.27),
    12: Element("Mg", 1.41, 1.73),
    13: Element("Al", 1.21, 1.84),
    14: Element("Si", 1.11, 2.10),
    15: Element("P", 1.07, 1.80),
    16: Element("S", 1.05, 1.80),
    17: Element("Cl", 1.02, 1.75),
    18: Element("Ar", 1.06, 1.88),
    19: Element("K", 2.03, 2.75),
    20: Element("Ca", 1.76, 2.31),
    34: Element("Se", 1.20, 1.90),
    35: Element("Br", 1.20, 1.85),
    53: Element("I", 1.39, 1.98),
}
"""By atomic number."""


def formula(numbers: list[int]) -> str:
    """Return the formula of atomic numbers as Hill orders it: C, H, then the others by symbol; without C, by symbol."""
    symbols = [ELEMENTS[number].symbol for number in numbers]
    first = ["C", "H"] if "C" in symbols else []
    order = [*(symbol for symbol in first if symbol in symbols), *sorted({*symbols} - {*first})]
    counts = [(symbol, symbols.count(symbol)) for symbol in order]
    return "".join(symbol if count == 1 else f"{symbol}{count}" for symbol, count in counts)
