"""Images whose labels stand in a table: divided by a column of its own, or by the split files of `ml-split --table`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.core.files import read_json
from mltrain.data.fold_lists import ListedFiles, split_command
from mltrain.data.folds_source import read_listed
from mltrain.data.image_files import printable
from mltrain.data.image_table import ImageTable, TableColumns
from mltrain.data.labelled_splits import SPLITS, LabelledPaths, LabelledSplits
from mltrain.data.split_files import METADATA

__all__ = ["divided_by_column", "divided_by_lists", "table_facts"]


def divided_by_column(table: ImageTable) -> LabelledSplits:
    """Return the rows of a table as its split column divides them.

    Raises:
        DataError: no row is training.
    """
    splits = {split: LabelledPaths() for split in SPLITS}
    for row in table.rows:
        splits[row.split].paths.append(row.path)
        splits[row.split].labels.append(row.label)
    if not splits["train"].paths:
        raise DataError(
            f"no row has train in the column '{printable(str(table.columns.split))}'",
            where=printable(str(table.file)),
            fix="Mark the training images.",
        )
    return LabelledSplits(table.root, splits, records={}, labels_in_paths=False)


def divided_by_lists(table: ImageTable, splits_dir: Path, fold: int) -> LabelledSplits:
    """Return the rows of a table as the split files divide them.

    Raises:
        DataError: the split files cannot be used, name files that the table lacks, or a file has changed since.
    """
    files = ListedFiles(
        table.root,
        table.labels.get,
        f"that {printable(table.file.name)} names",
        table_facts(table.file, table.columns),
        _arguments(table),
    )
    splits = read_listed(files, splits_dir, fold)
    _refuse_other_labels(table, splits, splits_dir, fold, split_command(files, splits_dir))
    if not splits.records or (new := len(table.rows) - len(splits.records)) <= 0:
        return splits
    rows = f"{new} {'row' if new == 1 else 'rows'} of {printable(table.file.name)}"
    remark = f"{rows} in no split. To have them too, split again: {split_command(files, splits_dir)}"
    return replace(splits, remarks=(remark,))


def _refuse_other_labels(table: ImageTable, splits: LabelledSplits, splits_dir: Path, fold: int, command: str) -> None:
    """Raise DataError where the classes are not as frequent as when the table was split (lists made by hand: never)."""
    if not splits.records:
        return
    names = {"train": f"fold_{fold}_train", "val": f"fold_{fold}_val", "test": "test"}
    recorded: dict[str, dict[str, int]] = read_json(splits_dir / METADATA)["counts"]
    for split, name in names.items():
        then = Counter({label: lists[name] for label, lists in recorded.items() if lists.get(name)})
        now = Counter(splits.splits[split].labels)
        for label in sorted({*then, *now}):
            if then[label] != now[label]:
                raise DataError(
                    f"labels are not those that were split: {split} had {then[label]} of "
                    f"'{printable(label)}', now it has {now[label]}",
                    where=printable(str(table.file)),
                    fix=f"Put the old labels back, or split again: {command}",
                )


def table_facts(file: Path, columns: TableColumns) -> dict[str, str]:
    """Return what `splits.json` says of the table: its name and columns."""
    named = {"path_column": columns.path, "label_column": columns.label, "group_column": columns.group}
    return {"file": file.name, **{key: name for key, name in named.items() if name is not None}}


def _arguments(table: ImageTable) -> list[str]:
    """Return the arguments of the `ml-split` that cuts this table."""
    arguments, usual = ["--table", str(table.file)], TableColumns()
    if table.file.absolute().parent != table.root.absolute():
        arguments += ["--data_dir", str(table.root)]
    for option, name, default in (
        ("--path_column", table.columns.path, usual.path),
        ("--label_column", table.columns.label, usual.label),
    ):
        arguments += [option, name] if name != default else []
    return arguments
