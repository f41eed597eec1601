"""One fold as the split files say it: which paths are training, validation and test, and whether that can be used."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltrain.core.errors import DataError
from mltrain.core.files import read_json
from mltrain.data.image_files import first_few, printable
from mltrain.data.split_files import (
    METADATA,
    TEST_LIST,
    UNFINISHED,
    FileRecord,
    available_folds,
    class_of,
    read_list,
    read_records,
)

__all__ = ["ClassFolders", "FoldFiles", "ListedFiles", "read_fold", "split_command"]


@dataclass(frozen=True)
class FoldFiles:
    """The files of one fold: paths relative to the data folder, in the order of the lists.

    records: path -> record of every file of the data set; empty for lists made by hand, without `splits.json`.
    """

    train: list[str]
    val: list[str]
    test: list[str]
    records: dict[str, FileRecord]


@dataclass(frozen=True)
class ListedFiles:
    """What the paths of the lists must be.

    data_dir: the folder that they are relative to.
    label: path -> class, or None where the path cannot be one of the data set.
    expected: what a path must be, in words: "one of ...".
    table: name and columns of the table that the lists were made from, as `splits.json` has them; empty for folders.
        `rows` is true where the lists hold IDs of its rows, not paths of images that it names.
    arguments: what `ml-split` must be called with to make such lists.
    """

    data_dir: Path
    label: Callable[[str], str | None]
    expected: str
    table: Mapping[str, Any]
    arguments: Sequence[str]


class ClassFolders(ListedFiles):
    """The files of class folders: `raw/class/file`, whatever `raw` is called."""

    def __init__(self, data_dir: Path, splits_dir: Path) -> None:
        raw = data_dir / _folder_name(splits_dir)
        super().__init__(data_dir, _folder_class, "of the form raw/class/file", {}, ["--raw_data", str(raw)])


def split_command(files: ListedFiles, splits_dir: Path, *, fold: int = 0) -> str:
    """Return the `ml-split` command that makes the lists anew: as before, but with at least `fold` + 1 folds."""
    facts = _facts(splits_dir)
    words = ["ml-split", *files.arguments, "--folds", str(max(facts.get("folds", 5), fold + 1))]
    if group := facts.get("table", {}).get("group_column"):
        words += ["--group_column", group]
    test, validation = facts.get("test_ratio", 0.15), facts.get("validation_ratio", 0.0)
    if facts.get("method") == "repeated hold-out":
        words += ["--ratio", f"{1 - test - validation:.9g}", f"{validation:.9g}", f"{test:.9g}"]
    elif test != 0.15:
        words += ["--test_ratio", f"{test:.9g}"]
    if facts.get("seed", 42) != 42:
        words += ["--seed", str(facts["seed"])]
    if splits_dir.absolute() != (files.data_dir / "splits").absolute():
        words += ["--output", str(splits_dir)]
    if available_folds(splits_dir) or facts:
        words.append("--overwrite")
    return " ".join(shlex.quote(printable(word)) for word in words)


def read_fold(splits_dir: Path, fold: int, files: ListedFiles) -> FoldFiles:
    """Read the lists of one fold, checked: that the files exist is not.

    Raises:
        DataError: the fold is missing, the lists were not finished or differ from what `splits.json` says, a path
            is not one of `files` or is listed twice, training has no files, or another list has a class that training
            lacks.
    """
    _refuse_missing(splits_dir, fold, files)
    try:
        return _read(splits_dir, fold, files)
    except DataError as error:
        command = split_command(files, splits_dir, fold=fold)
        error.fix = f"{error.fix or 'Mend it by hand'}, or make the lists anew: {command}"
        raise


def _read(splits_dir: Path, fold: int, files: ListedFiles) -> FoldFiles:
    if (splits_dir / UNFINISHED).exists():
        raise DataError("ml-split was interrupted while it wrote these files", where=printable(str(splits_dir)))
    has_metadata = (splits_dir / METADATA).exists()
    names = [f"fold_{fold}_train.txt", f"fold_{fold}_val.txt"]
    if has_metadata or (splits_dir / TEST_LIST).exists():
        names.append(TEST_LIST)
    lists = {name: read_list(splits_dir / name) for name in names}
    records, facts = read_records(splits_dir / METADATA, lists) if has_metadata else ({}, {"table": files.table})
    _refuse_another_origin(splits_dir, facts.get("table", {}), files)
    _refuse_unknown(splits_dir, lists, files)
    _refuse_repeated(splits_dir, lists)
    train, val, test = lists[names[0]], lists[names[1]], lists.get(TEST_LIST, [])
    if not train:
        raise DataError("the training list is empty", where=printable(str(splits_dir / names[0])))
    return FoldFiles(train, val, test, records)


def _refuse_missing(splits_dir: Path, fold: int, files: ListedFiles) -> None:
    folds = available_folds(splits_dir)
    if fold in folds or (splits_dir / UNFINISHED).exists():
        return
    command = split_command(files, splits_dir, fold=fold)
    known = f"available folds: {', '.join(map(str, folds))}" if folds else "there are no split files"
    fix = f"Choose one of them, or make it with: {command}" if folds else f"Make them with: {command}"
    raise DataError(f"no fold {fold}; {known}", where=printable(str(splits_dir)), fix=fix)


def _refuse_another_origin(splits_dir: Path, table: Mapping[str, Any], files: ListedFiles) -> None:
    if bool(table) == bool(files.table) and table.get("rows") == files.table.get("rows"):
        return
    what, fix = "these splits were made from class folders, not from a table", "Leave out data.table"
    if table and files.table:
        of = "rows" if table.get("rows") else "images"
        what, fix = f"these splits are of the {of} of {printable(table['file'])}", "Name others with data.splits_dir"
    elif table:
        what, fix = f"these splits were made from the table {printable(table['file'])}", "Name it with data.table"
    raise DataError(what, where=printable(str(splits_dir)), fix=fix)


def _refuse_unknown(splits_dir: Path, lists: Mapping[str, list[str]], files: ListedFiles) -> None:
    for name, paths in lists.items():
        unknown = [path for path in paths if files.label(path) is None]
        if unknown:
            raise DataError(
                f"{first_few(unknown)}: not a path inside the data folder {files.expected}",
                where=printable(str(splits_dir / name)),
            )


def _refuse_repeated(splits_dir: Path, lists: Mapping[str, list[str]]) -> None:
    home: dict[str, str] = {}
    repeated = {
        f"{path} ({home[path]}, {name})"
        for name, paths in lists.items()
        for path in paths
        if home.setdefault(path, name) != name
    }
    repeated |= {f"{path} ({name})" for name, paths in lists.items() for path, n in Counter(paths).items() if n > 1}
    if repeated:
        raise DataError(f"listed twice: {first_few(sorted(repeated))}", where=printable(str(splits_dir)))


def _folder_class(path: str) -> str | None:
    return class_of(path) if path.count("/") > 1 else None


def _facts(splits_dir: Path) -> dict[str, Any]:
    """Return what `splits.json` says, or nothing where there is none that can be read."""
    try:
        facts = read_json(splits_dir / METADATA)
        return facts if {"folds", "seed", "method", "test_ratio", "validation_ratio"} <= facts.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def _folder_name(splits_dir: Path) -> str:
    """Return the name of the folder of class folders, as the lists have it."""
    try:
        with min(splits_dir.glob("fold_*_train.txt")).open(encoding="utf-8-sig") as lines:
            name = next(lines).partition("/")[0]
    except (OSError, ValueError, StopIteration):
        return "raw"
    return name if name not in {"", ".", ".."} else "raw"
