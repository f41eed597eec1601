"""A whole set of splits, and how it is written: lists of paths in a folder, and `splits.json`, written last."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mltrain.core.errors import DataError
from mltrain.core.files import fsync_path, read_json, write_text
from mltrain.core.version import __version__
from mltrain.data.image_files import printable
from mltrain.data.split_files import (
    FORMAT,
    LIST_NAME,
    METADATA,
    TEST_LIST,
    UNFINISHED,
    FileRecord,
    folder_files,
    list_digest,
    read_list,
    read_records,
)

__all__ = ["Splits", "write_splits"]


@dataclass(frozen=True)
class Splits:
    """A whole set of splits.

    method: "k-fold": each file that is not test is in exactly one validation fold. "repeated hold-out": each fold's
        validation files are drawn anew.
    test_ratio, validation_ratio: the shares of all files that were asked for.
    files: path -> record, of every file, sorted by path.
    labels: path -> class, of every file.
    test, validation: sorted paths; `validation` has one entry a fold.
    table: the table that files and classes come from: its name and columns. Empty for class folders.
    """

    method: Literal["k-fold", "repeated hold-out"]
    seed: int
    test_ratio: float
    validation_ratio: float
    files: dict[str, FileRecord]
    labels: Mapping[str, str]
    test: tuple[str, ...]
    validation: tuple[tuple[str, ...], ...]
    table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted."""
        return sorted({self.labels[path] for path in self.files})

    def train(self, fold: int) -> list[str]:
        """Return the training paths of a fold, sorted: every file that is neither test nor its validation."""
        others = {*self.test, *self.validation[fold]}
        return [path for path in self.files if path not in others]

    def lists(self) -> dict[str, list[str]]:
        """Return the content of each list file, by file name."""
        lists = {TEST_LIST: list(self.test)}
        for fold, validation in enumerate(self.validation):
            lists[f"fold_{fold}_train.txt"] = self.train(fold)
            lists[f"fold_{fold}_val.txt"] = list(validation)
        return lists

    def counts(self) -> dict[str, dict[str, int]]:
        """Return class -> list name without its suffix ("test", "fold_0_train", ...) -> number of files."""
        by_list = {
            name.removesuffix(".txt"): Counter(self.labels[path] for path in paths)
            for name, paths in self.lists().items()
        }
        return {label: {name: counter[label] for name, counter in by_list.items()} for label in self.classes}


def write_splits(splits: Splits, folder: Path, *, overwrite: bool = False) -> Literal["written", "unchanged"]:
    """Write the lists and `splits.json`, each whole or not at all, `splits.json` last.

    Where the folder holds the same splits already, nothing is written.

    Raises:
        DataError: the folder holds other splits and `overwrite` is False, or it cannot be written.
    """
    existing = [path for path in folder_files(folder) if path.name == METADATA or LIST_NAME.fullmatch(path.name)]
    if existing and not (folder / UNFINISHED).exists():
        if _is_same(splits, folder):
            return "unchanged"
        if not overwrite:
            raise DataError(
                "the folder holds other splits, and runs may depend on them",
                where=printable(str(folder)),
                fix="Write elsewhere with --output, or replace them with --overwrite.",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / UNFINISHED).touch()
        for path in existing:
            path.unlink()
        for name, paths in splits.lists().items():
            write_text(folder / name, "".join(f"{path}\n" for path in paths))
        write_text(folder / METADATA, _metadata_text(splits))
        fsync_path(folder)
        (folder / UNFINISHED).unlink()
    except OSError as error:
        raise DataError(
            f"the split files cannot be written ({error.strerror})",
            where=printable(str(folder)),
            fix="Make the folder writable and free space on its disk, or choose another with --output.",
        ) from None
    return "written"


def _is_same(splits: Splits, folder: Path) -> bool:
    try:
        lists = {name: read_list(folder / name) for name in splits.lists()}
        read_records(folder / METADATA, lists)
        facts, wanted = read_json(folder / METADATA), json.loads(_metadata_text(splits))
    except (DataError, OSError, ValueError):
        return False
    names = {path.name for path in folder_files(folder) if LIST_NAME.fullmatch(path.name)}
    return names == set(lists) and {**facts, "mltrain": None} == {**wanted, "mltrain": None}


def _metadata_text(splits: Splits) -> str:
    """Return the JSON of `splits.json`, with one line a file."""
    facts = {
        "format": FORMAT,
        "mltrain": __version__,
        "method": splits.method,
        "folds": len(splits.validation),
        "seed": splits.seed,
        "test_ratio": splits.test_ratio,
        "validation_ratio": splits.validation_ratio,
        "classes": splits.classes,
        "counts": splits.counts(),
        **({"table": dict(splits.table)} if splits.table else {}),
        "digest": "blake2b-160",
        "lists": {name: list_digest(paths) for name, paths in splits.lists().items()},
    }
    head = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    files = (
        f'    {json.dumps(path, ensure_ascii=False)}: {{"digest": "{record.digest}", "size": {record.size}}}'
        for path, record in splits.files.items()
    )
    return f'{head},\n  "files": {{\n' + ",\n".join(files) + "\n  }\n}\n"
