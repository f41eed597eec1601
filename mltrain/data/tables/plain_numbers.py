"""Columns of nothing but plain numbers and gaps, converted at once: a table has many values."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["plain_numbers"]

_PLAIN = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"


def plain_numbers(array: pa.ChunkedArray, missing: Collection[str]) -> list[float | None] | None:
    """Return the numbers of texts, None where there is none; or None where a text is not plainly a number.

    Args:
        array: the texts.
        missing: texts, in lower case, that stand for a missing number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.utf8_trim_whitespace(array)
    gaps = pc.fill_null(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(missing))), fill_value=True)
    texts = pc.if_else(gaps, pa.scalar(None, pa.string()), texts)
    if not pc.all(pc.match_substring_regex(texts, _PLAIN), min_count=0).as_py():
        return None
    numbers = pc.cast(texts, pa.float64())
    if not pc.all(pc.is_finite(numbers), min_count=0).as_py():
        return None
    found: list[float | None] = numbers.to_pylist()
    return found
