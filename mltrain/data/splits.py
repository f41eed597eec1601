"""The split files: which samples are training, validation and test, as lists of paths in a folder.

`test.txt`, `fold_K_train.txt` and `fold_K_val.txt` hold one path a line, relative to the data folder, as
`raw/class/file`. `splits.json`, written last, says how they were made and holds the digest and size of every file.
Lists that somebody wrote by hand do without it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mltrain.core.errors import DataError
from mltrain.core.files import fsync_path, read_json, write_text
from mltrain.core.version import __version__
from mltrain.data.image_files import first_few, printable

__all__ = ["FileRecord", "FoldFiles", "Splits", "available_folds", "class_of", "read_split", "write_splits"]

FORMAT = 1
METADATA = "splits.json"
TEST_LIST = "test.txt"

# Present while the files are being written: after a crash it tells an unfinished set from one made by hand.
_UNFINISHED = ".unfinished"
_LIST_NAME = re.compile(r"test\.txt|fold_(0|[1-9][0-9]*)_(train|val)\.txt")


@dataclass(frozen=True)
class FileRecord:
    """What a file was when it was split: blake2b of its content (160 bits, hexadecimal) and its size in bytes."""

    digest: str
    size: int


@dataclass(frozen=True)
class Splits:
    """A whole set of splits.

    method: "k-fold": each file that is not test is in exactly one validation fold. "repeated hold-out": each fold's
        validation files are drawn anew.
    test_ratio, validation_ratio: the shares of all files that were asked for.
    files: path -> record, of every file, sorted by path.
    test, validation: sorted paths; `validation` has one entry a fold.
    """

    method: Literal["k-fold", "repeated hold-out"]
    seed: int
    test_ratio: float
    validation_ratio: float
    files: dict[str, FileRecord]
    test: tuple[str, ...]
    validation: tuple[tuple[str, ...], ...]

    @property
    def classes(self) -> list[str]:
        """The names of the classes, sorted."""
        return sorted({class_of(path) for path in self.files})

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
        by_list = {name.removesuffix(".txt"): Counter(map(class_of, paths)) for name, paths in self.lists().items()}
        return {label: {name: counter[label] for name, counter in by_list.items()} for label in self.classes}


@dataclass(frozen=True)
class FoldFiles:
    """The files of one fold: paths relative to the data folder, in the order of the lists.

    digests: path -> record of every file of the data set; empty for lists made by hand, without `splits.json`.
    """

    train: list[str]
    val: list[str]
    test: list[str]
    classes: list[str]
    digests: dict[str, FileRecord]


def class_of(path: str) -> str:
    """Return the class of a path as the lists hold it: `raw/class/file` -> `class`."""
    return path.split("/", 2)[1]


def write_splits(splits: Splits, folder: Path, *, overwrite: bool = False) -> Literal["written", "unchanged"]:
    """Write the lists and `splits.json`, each whole or not at all, `splits.json` last.

    Where the folder holds the same splits already, nothing is written.

    Raises:
        DataError: the folder holds other splits and `overwrite` is False, or it cannot be written.
    """
    existing = [path for path in _files_in(folder) if path.name == METADATA or _LIST_NAME.fullmatch(path.name)]
    if existing and not (folder / _UNFINISHED).exists():
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
        (folder / _UNFINISHED).touch()
        for path in existing:
            path.unlink()
        for name, paths in splits.lists().items():
            write_text(folder / name, "".join(f"{path}\n" for path in paths))
        write_text(folder / METADATA, _metadata_text(splits))
        fsync_path(folder)
        (folder / _UNFINISHED).unlink()
    except OSError as error:
        raise DataError(
            f"the split files cannot be written ({error.strerror})",
            where=printable(str(folder)),
            fix="Make the folder writable and free space on its disk, or choose another with --output.",
        ) from None
    return "written"


def available_folds(splits_dir: Path) -> list[int]:
    """Return the folds that have both lists, in order; none where the folder is missing."""
    names = {path.name for path in _files_in(splits_dir)}
    numbers = {int(match[1]) for name in names if (match := _LIST_NAME.fullmatch(name)) and match[1]}
    return sorted(k for k in numbers if {f"fold_{k}_train.txt", f"fold_{k}_val.txt"} <= names)


def read_split(splits_dir: Path, fold: int) -> FoldFiles:
    """Read the lists of one fold, checked: that the files exist is not.

    Raises:
        DataError: the fold is missing, the lists were not finished or differ from what `splits.json` says, a path
            leaves the data folder or is listed twice, training has no files, or another list has a class that training
            lacks.
    """
    _refuse_missing(splits_dir, fold)
    has_metadata = (splits_dir / METADATA).exists()
    names = [f"fold_{fold}_train.txt", f"fold_{fold}_val.txt"]
    if has_metadata or (splits_dir / TEST_LIST).exists():
        names.append(TEST_LIST)
    lists = {name: _read_list(splits_dir / name) for name in names}
    _refuse_repeated(splits_dir, lists)
    train, val, test = lists[names[0]], lists[names[1]], lists.get(TEST_LIST, [])
    if not train:
        raise _unusable(splits_dir / names[0], "the training list is empty")
    records = _read_records(splits_dir / METADATA, lists) if has_metadata else {}
    classes = sorted({class_of(path) for path in (records or train)})
    strange = sorted({class_of(path) for path in (*val, *test)} - {class_of(path) for path in train})
    if strange:
        raise _unusable(splits_dir, f"fold {fold} has no training files of the classes {first_few(strange)}")
    return FoldFiles(train, val, test, classes, records)


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(
            f"the folder of the split files cannot be listed ({error.strerror})",
            where=printable(str(folder)),
            fix="Give a folder that may be read.",
        ) from None


def _is_same(splits: Splits, folder: Path) -> bool:
    try:
        lists = {name: _read_list(folder / name) for name in splits.lists()}
        _read_records(folder / METADATA, lists)
        facts, wanted = read_json(folder / METADATA), json.loads(_metadata_text(splits))
    except (DataError, OSError, ValueError):
        return False
    names = {path.name for path in _files_in(folder) if _LIST_NAME.fullmatch(path.name)}
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
        "digest": "blake2b-160",
        "lists": {name: _list_digest(paths) for name, paths in splits.lists().items()},
    }
    head = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False).removesuffix("\n}")
    files = (
        f'    {json.dumps(path, ensure_ascii=False)}: {{"digest": "{record.digest}", "size": {record.size}}}'
        for path, record in splits.files.items()
    )
    return f'{head},\n  "files": {{\n' + ",\n".join(files) + "\n  }\n}\n"


def _list_digest(paths: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(paths).encode(), digest_size=20).hexdigest()


def _read_records(path: Path, lists: Mapping[str, list[str]]) -> dict[str, FileRecord]:
    """Return the files' records; lists that are not those of `splits.json` are refused."""
    try:
        facts: dict[str, Any] = read_json(path)
        if facts["format"] != FORMAT:
            raise DataError(
                f"its format is {facts['format']!r}, this mltrain reads {FORMAT}",
                where=printable(str(path)),
                fix="Use the version of mltrain that wrote it, or run ml-split again.",
            )
        digests = dict(facts["lists"])
        records = {name: FileRecord(entry["digest"], entry["size"]) for name, entry in facts["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _unusable(path, "the file is damaged") from None
    changed = [name for name, paths in lists.items() if digests.get(name) != _list_digest(paths)]
    if changed:
        raise DataError(
            f"not as ml-split wrote it: {first_few(changed)}",
            where=printable(str(path.parent)),
            fix=f"Run ml-split again with --overwrite, or delete {METADATA} to use lists made by hand.",
        )
    return records


def _read_list(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _unusable(path, f"the list cannot be read ({cause})") from None
    paths = [line for line in text.split("\n") if line.strip()]
    for listed in paths:
        parts = listed.split("/")
        if len(parts) < 3 or "\0" in listed or not {"", ".", ".."}.isdisjoint(parts):
            raise DataError(
                f"'{printable(listed)}' is not a path inside the data folder, of the form raw/class/file",
                where=printable(str(path)),
                fix="Write paths relative to the data folder, with / and without '..', or run ml-split.",
            )
    return paths


def _refuse_missing(splits_dir: Path, fold: int) -> None:
    if (splits_dir / _UNFINISHED).exists():
        raise _unusable(splits_dir, "ml-split was interrupted while it wrote these files")
    folds = available_folds(splits_dir)
    if fold not in folds:
        known = f"available folds: {', '.join(map(str, folds))}" if folds else "there are no split files"
        command = f"ml-split --raw_data {printable(str(splits_dir.parent))}/raw --folds {max(5, fold + 1)}"
        fix = f"Choose one of them, or make it with: {command}" if folds else f"Make them with: {command}"
        raise DataError(f"no fold {fold}; {known}", where=printable(str(splits_dir)), fix=fix)


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
        raise _unusable(splits_dir, f"listed twice: {first_few(sorted(repeated))}")


def _unusable(path: Path, what: str) -> DataError:
    return DataError(what, where=printable(str(path)), fix="Run ml-split again with --overwrite, or mend it by hand.")
