"""The format of the split files: their names, how a list and the record of its files are read.

`test.txt`, `fold_K_train.txt` and `fold_K_val.txt` hold one path a line, relative to the data folder.
`splits.json` says how they were made and holds the digest and size of every file. Errors of this module say in `fix`
what to do beside running ml-split again, without a full stop: a reader of folds adds the command.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltrain.core.errors import DataError
from mltrain.core.files import read_json
from mltrain.data.image_files import first_few, printable

__all__ = [
    "FORMAT",
    "LIST_NAME",
    "METADATA",
    "TEST_LIST",
    "UNFINISHED",
    "FileRecord",
    "available_folds",
    "class_of",
    "folder_files",
    "list_digest",
    "read_list",
    "read_records",
]

FORMAT = 1
METADATA = "splits.json"
TEST_LIST = "test.txt"

# Present while the files are being written: after a crash it tells an unfinished set from one made by hand.
UNFINISHED = ".unfinished"
LIST_NAME = re.compile(r"test\.txt|fold_(0|[1-9][0-9]*)_(train|val)\.txt")


@dataclass(frozen=True)
class FileRecord:
    """What a file was when it was split: blake2b of its content (160 bits, hexadecimal) and its size in bytes."""

    digest: str
    size: int


def class_of(path: str) -> str:
    """Return the class of a path below class folders: `raw/class/file` -> `class`."""
    return path.split("/", 2)[1]


def folder_files(folder: Path) -> list[Path]:
    """Return what a folder of split files holds, sorted; nothing where it is missing."""
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


def available_folds(splits_dir: Path) -> list[int]:
    """Return the folds that have both lists, in order; none where the folder is missing."""
    names = {path.name for path in folder_files(splits_dir)}
    numbers = {int(match[1]) for name in names if (match := LIST_NAME.fullmatch(name)) and match[1]}
    return sorted(k for k in numbers if {f"fold_{k}_train.txt", f"fold_{k}_val.txt"} <= names)


def list_digest(paths: Iterable[str]) -> str:
    """Return the blake2b (160 bits, hexadecimal) of a list's paths."""
    return hashlib.blake2b("\n".join(paths).encode(), digest_size=20).hexdigest()


def read_list(path: Path) -> list[str]:
    """Return the paths of a list.

    Raises:
        DataError: it cannot be read, or a path leaves the data folder.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"the list cannot be read ({cause})", where=printable(str(path))) from None
    paths = [line for line in text.split("\n") if line.strip()]
    for listed in paths:
        if "\0" in listed or not {"", ".", ".."}.isdisjoint(listed.split("/")):
            raise DataError(
                f"'{printable(listed)}' is not a path inside the data folder",
                where=printable(str(path)),
                fix="Write paths relative to the data folder, with / and without '..'",
            )
    return paths


def read_records(path: Path, lists: Mapping[str, list[str]]) -> tuple[dict[str, FileRecord], dict[str, Any]]:
    """Return the records of all files in `splits.json`, and its other facts.

    Raises:
        DataError: it is damaged, of another format, or `lists` (file name -> paths) are not those it was written with.
    """
    try:
        facts: dict[str, Any] = read_json(path)
        if facts["format"] != FORMAT:
            raise DataError(
                f"its format is {facts['format']!r}, this mltrain reads {FORMAT}",
                where=printable(str(path)),
                fix="Use the version of mltrain that wrote it",
            )
        digests = dict(facts["lists"])
        records = {name: FileRecord(entry["digest"], entry["size"]) for name, entry in facts.pop("files").items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError("the file is damaged", where=printable(str(path))) from None
    changed = [name for name, paths in lists.items() if digests.get(name) != list_digest(paths)]
    if changed:
        raise DataError(
            f"not as ml-split wrote it: {first_few(changed)}",
            where=printable(str(path.parent)),
            fix=f"Delete {METADATA} to use lists made by hand",
        )
    return records, facts
