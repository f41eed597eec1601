"""Parquet files, read by row groups."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mltrain.core.errors import DataError
from mltrain.data.image_files import printable
from mltrain.data.tables.row_batches import ROWS_A_BATCH, BadRows, RowBatch

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetTable"]


class ParquetTable:
    """See `row_batches.TableReader`. Values become the texts that pandas writes into CSV: 1, 0.5, 1.0, True.

    NaN is a missing value; lists and structures are their JSON, bytes that are no UTF-8 are written in hexadecimal.

    Raises:
        DataError: the file cannot be read, or two columns have one name.
    """

    unit: Literal["line", "row"] = "row"

    def __init__(self, file: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._place = printable(str(file))
        self.bad = BadRows()
        try:
            self._content = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None
        names = [name.strip() for name in self._content.schema_arrow.names]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise DataError(
                f"{names.count(repeated)} columns are called '{printable(repeated)}'",
                where=self._place,
                fix="Rename them.",
            )
        self._taken = [place for place, name in enumerate(names) if name and name != "__index_level_0__"]
        self.columns = [names[place] for place in self._taken]

    def batches(self) -> Iterator[RowBatch]:
        """Yield all rows."""
        import pyarrow as pa

        row = 1
        try:
            for batch in self._content.iter_batches(ROWS_A_BATCH):
                arrays = [_texts(batch.column(place)) for place in self._taken]
                table = pa.table(dict(zip(self.columns, arrays, strict=True)))
                yield RowBatch(table, range(row, row + batch.num_rows))
                row += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"the table cannot be read ({error})", where=self._place, fix="Give the path of a whole Parquet file."
        )


def _texts(array: pa.Array) -> pa.Array:
    """Return the values of an array as texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        return _texts(array.dictionary_decode())
    if pa.types.is_boolean(kind):
        return pc.if_else(array, "True", "False")
    if pa.types.is_floating(kind):
        texts = pc.cast(array, pa.string())
        whole = pc.match_substring_regex(texts, r"^-?\d+$")
        texts = pc.if_else(whole, pc.binary_join_element_wise(texts, ".0", ""), texts)
        return pc.if_else(pc.is_nan(array), pa.scalar(None, pa.string()), texts)
    try:
        return pc.cast(array, pa.string())
    except pa.ArrowException:  # lists, structures, bytes that are no text
        return pa.array([_text(value) for value in array.to_pylist()], type=pa.string())


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=str)
