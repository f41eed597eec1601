"""A table of texts, from CSV, TSV, JSON lines or Parquet, whatever its size: memory-mapped Arrow."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltrain.core.errors import DataError
from mltrain.core.registry import nearest
from mltrain.data.image_files import first_few, printable
from mltrain.data.tables.row_batches import BadRows
from mltrain.data.tables.stored_rows import StoredRows, stored_rows
from mltrain.data.tables.table_format import TableFormat, kind_of

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["Table", "open_table", "read_table"]

_SHOWN_COLUMNS = 8


class Table:
    """The rows of a file, in its order. All values are texts as they stand there; None where there is no value.

    Attributes:
        file: the file.
        rows: the rows, memory-mapped.
        columns: the names of the columns.
        table_format: how the file was read.
    """

    def __init__(self, file: Path, stored: StoredRows, table_format: TableFormat) -> None:
        self.file, self.table_format = file, table_format
        self._stored = stored
        self.rows: datasets.Dataset = stored.rows
        self.columns: list[str] = list(stored.rows.column_names)

    def __len__(self) -> int:
        return len(self._stored.places)

    @property
    def digest(self) -> str:
        """Sha256 of the file."""
        return self._stored.digest

    @property
    def bad(self) -> BadRows:
        """Rows that were left out because they are none: of other width, or no JSON."""
        return self._stored.bad

    @cached_property
    def name(self) -> str:
        """The path of the file, for messages."""
        return printable(str(self.file))

    def array(self, name: str, key: str) -> pa.ChunkedArray:
        """Return a column as Arrow has it: see `column`."""
        if name not in self.columns:
            raise self._no_column(name, key)
        return self.rows.data.column(name)

    def column(self, name: str, key: str) -> list[Any]:
        """Return the texts of a column, None where there is no value.

        Args:
            name: of the column.
            key: what names it, for the error: `data.label_column`, say.

        Raises:
            DataError: there is no such column.
        """
        values: list[Any] = self.array(name, key).to_pylist()
        return values

    def place(self, row: int) -> str:
        """Return where a row, counted from 0, stands: "data.csv:17" (its first line) or "data.parquet, row 17"."""
        return self.place_of(self.place_number(row))

    def place_number(self, row: int) -> int:
        """Return the line in which a row, counted from 0, begins; in files without lines its number from 1."""
        return int(self._stored.places[row])

    def place_of(self, number: int) -> str:
        """Return the same for a line, or for the number of a row from 1."""
        return f"{self.name}:{number}" if self._stored.unit == "line" else f"{self.name}, row {number}"

    def _no_column(self, name: str, key: str) -> DataError:
        folded = {known.lower(): known for known in self.columns}
        close = folded.get(name.lower()) or nearest(name, self.columns)
        close = close or next((known for known in self.columns if name.lower() in known.lower()), None)
        fix = f"Did you mean '{printable(close)}'? Name the column with {key}." if close else f"Name one with {key}."
        if not close and kind_of(self.file) == "delimited" and self.table_format.column_names is None:
            fix += " If the first line is a row already, name all columns with data.column_names (--column_names)."
        return DataError(
            f"there is no column '{printable(name)}'; columns: {first_few(self.columns, _SHOWN_COLUMNS)}",
            where=self.name,
            fix=fix,
        )


def read_table(file: Path, table_format: TableFormat | None = None) -> Table:
    """Read a table: CSV, TSV, JSON lines or Parquet, by its suffix.

    Args:
        file: the file.
        table_format: how files of separated values are written, where that is not as usual.

    Raises:
        ConfigError: a format for a file that says it itself.
        DataError: the file cannot be read as a table, or has no rows.
    """
    if not file.is_file():
        what = "is no file" if file.exists() else "there is no such table"
        raise DataError(
            what, where=printable(str(file)), fix="Give the path of a CSV, TSV, JSON lines or Parquet file."
        )
    table_format = table_format or TableFormat()
    table_format.refuse_needless(file)
    table = Table(file, stored_rows(file, table_format), table_format)
    if not len(table) and not table.bad.count:
        raise DataError("the table has no rows", where=table.name, fix="Add a line for each example.")
    return table


def open_table(data_dir: Path, table: str, table_format: TableFormat | None = None) -> Table:
    """Read the table that a configuration names.

    Args:
        data_dir: the data folder.
        table: path of the table, relative to it.
        table_format: see `read_table`.

    Raises:
        ConfigError, DataError: as for `read_table`; or there is no such folder.
    """
    if not data_dir.is_dir():
        what = "this is not a folder" if data_dir.exists() else "there is no such folder"
        raise DataError(what, where=printable(str(data_dir)), fix="Set data.data_dir to the data folder.")
    if not (data_dir / table).exists():
        raise DataError(
            "there is no such table",
            where=printable(str(data_dir / table)),
            fix=f"Set data.table to its path, relative to data.data_dir ({printable(str(data_dir))}).",
        )
    return read_table(data_dir / table, table_format)
