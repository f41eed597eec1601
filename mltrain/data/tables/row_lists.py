"""The split files of a table's rows: what `ml-split` was asked for, and a fold as numbers of rows.

The lists hold IDs of rows: see `row_ids`. `splits.json` says of the table which columns they are made of, so that a
column that is added later changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltrain.core.errors import DataError
from mltrain.core.files import read_record
from mltrain.data.fold_lists import ListedFiles, read_fold, split_command
from mltrain.data.image_files import printable
from mltrain.data.split_files import METADATA
from mltrain.data.tables.row_batches import SHOWN_PROBLEMS
from mltrain.data.tables.row_ids import row_digests, row_ids
from mltrain.data.tables.table import Table

__all__ = ["ListedRows", "RowSplitFacts", "group_of_splits", "read_row_lists", "usual_content"]


@dataclass(frozen=True)
class RowSplitFacts:
    """What rows were split by.

    file: name of the table.
    columns: those that rows are known by, sorted.
    label: column that the splits are stratified by; None: none.
    group: column of what must stay on one side; None: none.
    content: columns in which equal rows stay on one side.
    bins: number of strata of a numeric label; None: each label is one.
    """

    file: str
    columns: list[str]
    label: str | None
    group: str | None
    content: list[str]
    bins: int | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `rows` tells them from those of a table of images."""
        return {"rows": True, **vars(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RowSplitFacts:
        """Return what `to_json` described."""
        return cls(**{name: value[name] for name in cls.__dataclass_fields__})

    def arguments(self, table: Table, usual_content: Sequence[str]) -> list[str]:
        """Return the arguments of `ml-split` that ask for the same; `usual_content` is what it takes by itself."""
        words = ["--table", str(table.file), *(["--label", self.label] if self.label is not None else ["--rows"])]
        words += ["--group", self.group] if self.group is not None else []
        words += ["--content", *self.content] if sorted(self.content) != sorted(usual_content) else []
        words += ["--bins", str(self.bins)] if self.bins is not None else []
        return [*words, *table.table_format.arguments()]


@dataclass(frozen=True)
class ListedRows:
    """A fold.

    rows: split -> numbers of its rows, in the order of the lists.
    ids: ID of every row of the table.
    new: rows of the table that are in no split.
    again: the command that splits anew.
    """

    rows: dict[str, list[int]]
    ids: list[str]
    new: list[int]
    again: str


def usual_content(columns: Sequence[str], label: str | None) -> list[str]:
    """Return the columns in which equal rows stay on one side, where nobody has named them: all but the label."""
    return [name for name in columns if name != label]


def read_row_lists(table: Table, splits_dir: Path, fold: int, wanted: RowSplitFacts) -> ListedRows:
    """Return a fold of a table's rows.

    Args:
        table: the table.
        splits_dir: folder of the split files.
        fold: which.
        wanted: what `ml-split` is to be asked for where it has not been run.

    Raises:
        DataError: the split files cannot be used, or rows that they name are not in the table.
    """
    facts = _facts(splits_dir) or wanted
    arguments = facts.arguments(table, usual_content(table.columns, facts.label))
    files = ListedFiles(table.file.parent, lambda _: "", "of a row", facts.to_json(), arguments)
    listed = read_fold(splits_dir, fold, files)
    again = split_command(files, splits_dir)
    ids = row_ids(row_digests(table, facts.columns, f"{printable(str(splits_dir))} (as the table had it)"))
    rows = {row_id: number for number, row_id in enumerate(ids)}
    lists = {"train": listed.train, "val": listed.val, "test": listed.test}
    named = {row_id for part in lists.values() for row_id in part}
    new = [number for number, row_id in enumerate(ids) if row_id not in named]
    if lost := [row_id for row_id in named if row_id not in rows]:
        raise _changed(table, len(lost), new, splits_dir, facts, again)
    return ListedRows({split: [rows[row_id] for row_id in part] for split, part in lists.items()}, ids, new, again)


def group_of_splits(splits_dir: Path) -> str | None:
    """Return the column of what must stay on one side, as the split files of a folder say it."""
    facts = _facts(splits_dir)
    return None if facts is None else facts.group


def _facts(splits_dir: Path) -> RowSplitFacts | None:
    """Return what the rows were split by, or None where `splits.json` does not say it."""
    facts = read_record(splits_dir / METADATA).get("table")
    try:
        return RowSplitFacts.from_json(facts)  # type: ignore[arg-type]
    except (LookupError, TypeError):
        return None


def _changed(
    table: Table, lost: int, new: Sequence[int], splits_dir: Path, facts: RowSplitFacts, again: str
) -> DataError:
    """Return the error for rows that were split and are not in the table any more."""
    rows = "1 row that was split is" if lost == 1 else f"{lost} rows that were split are"
    what = f"the table has changed: {rows} not in it any more"
    fix = f"Put the old table back, or split again: {again}"
    if facts.file != table.file.name:
        fix = f"These splits were made from {printable(facts.file)}. {fix}"
    if not new:
        return DataError(what, where=table.name, fix=fix)
    shown = [f"{table.place(row)}: this row was not there when the table was split." for row in new[:SHOWN_PROBLEMS]]
    if more := len(new) - len(shown):
        shown.append(f"{table.name}: {more} more such {'row' if more == 1 else 'rows'}.")
    return DataError(what, problems=[*shown, f"{table.name}: {what} ({printable(str(splits_dir))}). {fix}"])
