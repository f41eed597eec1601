"""What every reader of a table gives: batches of rows as texts, each with its place, and the rows that are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROWS_A_BATCH", "SHOWN_PROBLEMS", "BadRow", "BadRows", "RowBatch", "TableReader", "text_table"]

ROWS_A_BATCH = 10_000
SHOWN_PROBLEMS = 10


class RowBatch(NamedTuple):
    """Rows as columns of texts, null where there is no value; and the place of each: see `TableReader.unit`."""

    values: pa.Table
    places: Sequence[int]


class BadRow(NamedTuple):
    """A row that cannot be taken: its place, what is wrong and what to do about it."""

    place: int
    what: str


@dataclass
class BadRows:
    """How many rows could not be taken, and the first of them."""

    count: int = 0
    first: list[BadRow] = field(default_factory=list)

    def add(self, place: int, what: str) -> None:
        """Count a row; keep what is wrong with it if it is one of the first."""
        self.count += 1
        if len(self.first) < SHOWN_PROBLEMS:
            self.first.append(BadRow(place, what))


class TableReader(Protocol):
    """An open table.

    Attributes:
        columns: the names of its columns, without those that have none.
        unit: what a place is: the line in which a row begins, or the number of the row; from 1.
        bad: the rows that were left out so far; complete when `batches` has ended.
    """

    columns: list[str]
    unit: Literal["line", "row"]
    bad: BadRows

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows, once, in order."""
        ...


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> pa.Table:
    """Return rows of texts as an Arrow table."""
    import pyarrow as pa

    values = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in columns]
    arrays = [pa.array(column, type=pa.string()) for column in values]
    return pa.table(dict(zip(columns, arrays, strict=True)))
