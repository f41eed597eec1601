"""What tasks on tables say of their data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mltrain.config.section import DataSection
from mltrain.data.tables.columns import Column
from mltrain.data.tables.row_lists import group_of_splits
from mltrain.data.tables.row_splits import RowSplits, read_row_splits
from mltrain.data.tables.table import Table, open_table
from mltrain.data.tables.table_format import TableFormat

__all__ = ["TableDataSection"]


class TableDataSection(DataSection):
    """Rows of a table. A task extends it with the names of its columns."""

    table: str = Field(
        min_length=1, description="Table, relative to `data_dir`: CSV, TSV, JSON lines or Parquet, by its suffix."
    )
    split_column: str | None = Field(
        None, description="Column that says train, val or test. Default: the split files of `ml-split --table` do."
    )
    column_names: list[str] | None = Field(
        None, min_length=1, description="Names of the columns of a CSV or TSV file whose first line is a row already."
    )
    quoting: Literal["csv", "none"] = Field(
        "csv",
        description="CSV and TSV. csv: values with delimiters stand in double quotes; none: a quote is a character.",
    )
    on_bad_rows: Literal["stop", "skip"] = Field(
        "stop", description="Rows that cannot be used. stop: an error that tells their lines; skip: they are left out."
    )

    def table_format(self) -> TableFormat:
        """Return how the file is written."""
        return TableFormat(None if self.column_names is None else tuple(self.column_names), self.quoting)

    def read_table(self) -> Table:
        """Read the table itself: see `open_table`."""
        return open_table(Path(self.data_dir), self.table, self.table_format())

    def group_column(self) -> str | None:
        """Return the column by which `ml-split` has kept rows together, if it did and the split files are used."""
        return None if self.split_column is not None else group_of_splits(self._splits_folder())

    def _splits_folder(self) -> Path:
        return (
            Path(self.splits_dir) if self.splits_dir is not None else Path(self.data_dir, self.table).parent / "splits"
        )

    def read_rows(
        self,
        columns: Sequence[Column],
        *,
        label: str | None,
        check: Callable[[Mapping[str, Any]], str | None] | None = None,
    ) -> RowSplits:
        """Read and divide the table: see `read_row_splits`."""
        return read_row_splits(
            Path(self.data_dir),
            self.table,
            self.fold,
            splits_dir=None if self.splits_dir is None else Path(self.splits_dir),
            split_column=self.split_column,
            columns=columns,
            label=label,
            check=check,
            on_bad_rows=self.on_bad_rows,
            table_format=self.table_format(),
        )
