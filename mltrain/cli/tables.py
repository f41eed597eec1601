"""Tables of numbers on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["new_table", "print_table"]

_UNLIMITED = 1_000_000


def new_table(titles: Sequence[str], *, words: Sequence[str] = ()) -> Table:
    """Return a table without rows.

    Args:
        titles: of the columns.
        words: titles of those that hold words; the others hold numbers, which stand to the right.
    """
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True, justify="left" if title in words else "right")
    return table


def print_table(table: Table) -> None:
    """Print a table as wide as it is: where the terminal is narrower it breaks lines; rich would cut the numbers."""
    from rich.console import Console

    console = Console(highlight=False)
    natural = console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum
    console.width = max(console.width, natural)
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))
