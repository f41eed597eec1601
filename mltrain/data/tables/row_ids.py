"""What a row is called: a digest of its content, so that neither its place nor the order of the rows matters."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mltrain.data.tables.row_batches import ROWS_A_BATCH

if TYPE_CHECKING:
    from mltrain.data.tables.table import Table

__all__ = ["row_digests", "row_ids"]

_ID_LENGTH = 24


def row_digests(table: Table, columns: Sequence[str], key: str) -> list[str]:
    """Return the blake2b (160 bits, hexadecimal) of each row's texts in some columns, named in any order.

    Raises:
        DataError: there is no such column; `key` is what names them.
    """
    import pyarrow.compute as pc

    names = sorted(set(columns))
    head = hashlib.blake2b(json.dumps(names).encode(), digest_size=20)
    arrays = [table.array(name, key) for name in names]
    digests: list[str] = []
    for start in range(0, len(table), ROWS_A_BATCH):
        parts = []
        for array in arrays:
            some = array.slice(start, ROWS_A_BATCH).combine_chunks()
            # The length before each value keeps ("ab", "c") and ("a", "bc") apart, and a missing value from an empty.
            parts += [pc.fill_null(pc.cast(pc.binary_length(some), "string"), "-"), pc.fill_null(some, "")]
        for text in pc.binary_join_element_wise(*parts, ":").to_pylist():
            digest = head.copy()
            digest.update(text.encode())
            digests.append(digest.hexdigest())
    return digests


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
