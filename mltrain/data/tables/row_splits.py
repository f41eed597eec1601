"""The rows of a table in train, val and test, with the values that a task asked for: checked, and told by line."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.class_names import alike_classes
from mltrain.data.data_files import DataFile
from mltrain.data.image_files import first_few, printable
from mltrain.data.labelled_splits import SPLITS
from mltrain.data.tables.columns import Column
from mltrain.data.tables.divided_rows import rows_by_column
from mltrain.data.tables.row_ids import row_digests
from mltrain.data.tables.row_lists import ListedRows, RowSplitFacts, read_row_lists
from mltrain.data.tables.sound_rows import SoundRows, refuse_rows
from mltrain.data.tables.table import Table, open_table
from mltrain.data.tables.table_format import TableFormat

__all__ = ["OnBadRows", "RowSplits", "read_row_splits"]

OnBadRows = Literal["stop", "skip"]


class RowSplits:
    """A divided table.

    Attributes:
        table: the table; rows are counted from 0, in its order.
        splits: "train", and "val" and "test" where they have rows -> numbers of rows, int64. Their order depends on the
            content of the rows alone.
        ids: a stable ID of every row, by its content.
    """

    def __init__(
        self,
        table: Table,
        listed: ListedRows,
        sound: SoundRows,
        *,
        label: str | None,
        inputs: Sequence[str],
        remarks: Sequence[str],
        keep_together: str,
    ) -> None:
        self.table, self.ids = table, listed.ids
        self.splits: dict[str, NDArray[np.int64]] = {
            split: np.asarray(rows, dtype=np.int64) for split in SPLITS if (rows := sound.kept(listed.rows[split]))
        }
        self._sound, self._label, self._inputs, self._remarks = sound, label, inputs, list(remarks)
        self._keep_together = keep_together

    def values(self, name: str) -> Sequence[Any]:
        """Return the values of a column by number of the row; None where there is none, and in rows in no split."""
        return self._sound.values(name)

    def classes(self) -> list[str]:
        """Return the labels of the training rows, sorted.

        Raises:
            DataError: there is a single one, or another split has labels that training lacks.
        """
        assert self._label is not None
        labels = {split: self._labels(split) for split in self.splits}
        classes = sorted(set(labels["train"]))
        column = f"the column '{printable(self._label)}'"
        if len(classes) < 2:
            raise DataError(
                f"training has a single class in {column}, {first_few(classes)}; at least two are needed",
                where=self.table.name,
                fix="Add rows of other classes, or name the column of the classes.",
            )
        for split, names in labels.items():
            if strange := sorted(set(names) - set(classes)):
                raise DataError(
                    f"{split} has classes in {column} that have no training rows: {first_few(strange)}",
                    where=self.table.name,
                    fix="Name them as in train, add training rows, or take them out.",
                )
        return classes

    def facts(self) -> dict[str, Any]:
        """Return the digest of all rows with their splits, the counts, the classes, and what is left out."""
        content = {split: sorted(self.ids[row] for row in rows) for split, rows in self.splits.items()}
        counts: dict[str, Any] = {split: len(rows) for split, rows in self.splits.items()}
        if self._label is not None:
            counts = {split: dict(sorted(Counter(self._labels(split)).items())) for split in self.splits}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        facts: dict[str, Any] = {"digest": digest, "counts": counts}
        if self._label is not None:
            facts["classes"] = sorted(counts["train"])
        return {**facts, "left_out": self._sound.left_out()} if self._sound.left_out() else facts

    def files(self) -> Iterable[DataFile]:
        """Give every row with its split, as a file of a folder would be."""
        labels = self.values(self._label) if self._label is not None else None
        for split, rows in self.splits.items():
            for row in rows.tolist():
                yield DataFile(split, self.ids[row].partition("-")[0], self.ids[row], labels[row] if labels else "")

    def notices(self) -> list[str]:
        """Return what the user should know of the data, a sentence each."""
        alike = alike_classes(sorted(set(self._labels("train")))) if self._label is not None else []
        return [*self._remarks, *self._absent_classes(), *alike, *self._copies()]

    def _labels(self, split: str) -> list[str]:
        values = self.values(str(self._label))
        return [values[row] for row in self.splits[split].tolist()]

    def _absent_classes(self) -> Iterator[str]:
        if self._label is None:
            return
        classes = set(self._labels("train"))
        for split in self.splits:
            if absent := sorted(classes - set(self._labels(split))):
                yield (
                    f"{self.table.name}: {split} has no row of {first_few(absent)}, so its figures say nothing of "
                    "them. Add some if they matter."
                )

    def _copies(self) -> Iterator[str]:
        """Yield a sentence if rows are equal in all that the task sees, but stand in several splits."""
        digests = row_digests(self.table, self._inputs, "data")
        first: dict[str, tuple[str, int]] = {}
        pairs = [
            (row, first[digests[row]][1])
            for split, rows in self.splits.items()
            for row in rows.tolist()
            if first.setdefault(digests[row], (split, row))[0] != split
        ]
        if pairs:
            row, other = pairs[0]
            rows = "1 row has" if len(pairs) == 1 else f"{len(pairs)} rows have"
            more = "" if len(pairs) == 1 else ", and so on"
            yield (
                f"{rows} a copy in another split, equal in all that the model sees, so scores may be too good: "
                f"{self.table.place(row)} is {self.table.place(other)}{more}. {self._keep_together}"
            )


def read_row_splits(
    data_dir: Path,
    table: str,
    fold: int,
    *,
    splits_dir: Path | None,
    split_column: str | None,
    columns: Sequence[Column],
    label: str | None,
    check: Callable[[Mapping[str, Any]], str | None] | None = None,
    on_bad_rows: OnBadRows = "stop",
    table_format: TableFormat | None = None,
) -> RowSplits:
    """Read a table, divide it and convert the columns that a task needs.

    Args:
        data_dir: the data folder.
        table: path of the table, relative to it.
        fold: which fold of the split files; 0 where a column divides the table.
        splits_dir: folder of the split files. None: `splits` beside the table.
        split_column: column that says train, val or test. None: the split files divide the table.
        columns: what the task needs.
        label: the column of these whose values are classes; None: none is.
        check: what else is wrong with a row, given the values of `columns` by name, in words that say what to do;
            None where nothing is. Called for the rows of the splits whose columns are sound.
        on_bad_rows: "stop" raises for rows of the splits that cannot be used, "skip" leaves them out with a remark.
        table_format: how a file of separated values is written, where that is not as usual.

    Raises:
        ConfigError: keys that contradict each other.
        DataError: the table or its split files cannot be used, or rows of it: up to ten, each with its line.
    """
    read = open_table(data_dir, table, table_format)
    for column in columns:
        read.array(column.name, column.key)
    if on_bad_rows == "stop":
        refuse_rows(read, {})  # a row that is none any more is told as that, before it is missed
    problems: dict[int, str] = {}
    if split_column is not None:
        _refuse_folds(fold, splits_dir, f"data.split_column ({printable(split_column)}) divides the data")
        listed, problems = rows_by_column(read, split_column)
    else:
        listed = read_row_lists(read, splits_dir or read.file.parent / "splits", fold, _wanted(read, label, columns))
    sound = SoundRows(read, columns, check, listed.rows, problems)
    if on_bad_rows == "stop":
        sound.refuse_problems()
    remarks = [*sound.remarks(), *_new_rows(read, listed)]
    inputs = _inputs(columns, label)
    splits = RowSplits(
        read,
        listed,
        sound,
        label=label,
        inputs=inputs,
        remarks=remarks,
        keep_together=_advice(inputs) if split_column is None else "Put such rows on one side.",
    )
    _refuse_empty(splits, listed, split_column)
    return splits


def _inputs(columns: Sequence[Column], label: str | None) -> list[str]:
    """Return the columns that a model sees."""
    targets = {column.name for column in columns if column.target or column.kind == "position"} | {label}
    return [column.name for column in columns if column.name not in targets] or [column.name for column in columns]


def _advice(inputs: Sequence[str]) -> str:
    """Return what keeps rows together that are equal in all that a model sees."""
    columns = " ".join(shlex.quote(printable(name)) for name in inputs) if len(inputs) < 4 else "COLUMN ..."
    return f"ml-split --content {columns} keeps such rows together."


def _wanted(table: Table, label: str | None, columns: Sequence[Column]) -> RowSplitFacts:
    """Return what `ml-split` should be asked for: rows that are equal in all that the model sees stay together."""
    numbers = [column.name for column in columns if column.target and column.kind == "number"]
    strata = label if label is not None else next(iter(numbers), None)
    return RowSplitFacts(table.file.name, sorted(table.columns), strata, None, _inputs(columns, label), None)


def _new_rows(table: Table, listed: ListedRows) -> list[str]:
    if not listed.new or not listed.again:
        return []
    count = len(listed.new)
    rows = f"{count} {'row' if count == 1 else 'rows'} of {table.name}"
    return [
        f"{rows} in no split, the first at {table.place(listed.new[0])}. To have them too, split again: {listed.again}"
    ]


def _refuse_empty(splits: RowSplits, listed: ListedRows, split_column: str | None) -> None:
    for split in SPLITS:
        if split in splits.splits or not (listed.rows[split] or split == "train"):
            continue
        if split_column is not None and not listed.rows[split]:
            raise DataError(
                f"no row has train in the column '{printable(split_column)}'",
                where=splits.table.name,
                fix="Mark the training rows.",
            )
        raise DataError(f"{split} has no row that can be used", where=splits.table.name, fix="Mend its rows.")


def _refuse_folds(fold: int, splits_dir: Path | None, reason: str) -> None:
    if fold != 0:
        raise ConfigError(f"is {fold}, but {reason}, so there is one fold", where="data.fold", fix="Set it to 0.")
    if splits_dir is not None:
        raise ConfigError(f"is set, but {reason}", where="data.splits_dir", fix="Leave it out.")
