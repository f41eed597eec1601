"""What a row is called: a digest of its content, so that neither its place nor the order of the rows matters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mltrain.core.files import content_digest
from mltrain.data.tables.row_batches import ROWS_A_BATCH

if TYPE_CHECKING:
    from mltrain.data.tables.table import Table

__all__ = ["row_contents", "row_digests", "row_ids"]

_ID_LENGTH = 24


def row_contents(table: Table, columns: Sequence[str], key: str) -> Iterator[bytes]:
    """Yield the content of each row in some columns: equal for equal texts, and for no others.

    Args:
        table: the table.
        columns: named in any order.
        key: what names them, for errors.

    Raises:
        DataError: there is no such column.
    """
    import pyarrow.compute as pc

    names = sorted(set(columns))
    head = json.dumps(names).encode()
    arrays = [table.array(name, key) for name in names]
    for start in range(0, len(table), ROWS_A_BATCH):
        parts = []
        for array in arrays:
            some = array.slice(start, ROWS_A_BATCH).combine_chunks()
            # The length before each value keeps ("ab", "c") and ("a", "bc") apart, and a missing value from an empty.
            parts += [pc.fill_null(pc.cast(pc.binary_length(some), "string"), "-"), pc.fill_null(some, "")]
        for text in pc.binary_join_element_wise(*parts, ":").to_pylist():
            yield head + text.encode()


def row_digests(table: Table, columns: Sequence[str], key: str) -> list[str]:
    """Return the blake2b (160 bits, hexadecimal) of each row's content: see `row_contents`."""
    return [content_digest(content) for content in row_contents(table, columns, key)]


def row_ids(digests: Sequence[str]) -> list[str]:
    """Return an ID for each row: the beginning of its digest, with "-2" for the second row of equal content, and so on.

    Which of some equal rows is the second does not matter: they are equal.
    """
    seen: Counter[str] = Counter()
    ids = []
    for digest in digests:
        seen[digest] += 1
        ids.append(digest[:_ID_LENGTH] if seen[digest] == 1 else f"{digest[:_ID_LENGTH]}-{seen[digest]}")
    return ids
