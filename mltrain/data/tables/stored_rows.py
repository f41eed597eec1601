"""The rows of a table in Arrow, memory-mapped, kept in the user's cache by the digest of the file.

An entry is a folder: `rows.arrow` (the columns, all texts), `places.npy` (the line or number of each row) and
`table.json`. It appears whole, by one rename, so that any number of processes may use the cache at once; another
content of the file, another format or another version of the readers is another entry. The cache may be deleted at any
time. Where it cannot be used, the rows lie in a temporary folder as long as the process lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from mltrain.core.cache_folder import cache_folder
from mltrain.core.errors import DataError
from mltrain.core.files import file_sha256, fsync_path, read_json, write_json
from mltrain.core.logging import log
from mltrain.data.image_files import printable
from mltrain.data.tables.delimited import DelimitedTable
from mltrain.data.tables.json_lines import JsonLinesTable
from mltrain.data.tables.parquet import ParquetTable
from mltrain.data.tables.row_batches import BadRow, BadRows, TableReader
from mltrain.data.tables.table_format import TableFormat, kind_of

if TYPE_CHECKING:
    import datasets

__all__ = ["StoredRows", "stored_rows"]

_READER = 1  # the version of the readers: another one reads anew
_STAGING = ".new-"
_ROWS, _PLACES, _FACTS = "rows.arrow", "places.npy", "table.json"


@dataclass(frozen=True)
class StoredRows:
    """The rows of a file.

    rows: the columns, all texts, null where there is no value; memory-mapped.
    places: int64 (rows,): the line in which each begins, or its number; from 1.
    unit: what a place is.
    bad: rows that were left out because they are none.
    digest: sha256 of the file.
    folder: where they lie; None where that is the cache. Kept so that the folder lives as long as the rows.
    """

    rows: datasets.Dataset
    places: NDArray[np.int64]
    unit: Literal["line", "row"]
    bad: BadRows
    digest: str
    folder: tempfile.TemporaryDirectory[str] | None = None


def stored_rows(file: Path, table_format: TableFormat) -> StoredRows:
    """Return the rows of a table, read anew only where the cache does not have them.

    Raises:
        DataError: the file cannot be read as a table, or changes while it is read.
    """
    digest = _digest(file)
    cache = cache_folder()
    if cache is not None:
        entry = cache / "tables" / _key(file, digest, table_format)
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return _opened(entry, digest)
        try:
            return _cached(entry, file, digest, table_format)
        except OSError as error:
            log.warning("The cache %s cannot be used (%s): the table is read each time.", cache, error)
    folder = tempfile.TemporaryDirectory(prefix="mltrain-table-")
    try:
        _write(Path(folder.name), file, digest, table_format)
        return _opened(Path(folder.name), digest, folder)
    except OSError as error:
        raise DataError(
            f"its rows cannot be kept in {folder.name} ({error.strerror or error})",
            where=printable(str(file)),
            fix="Free space there, or set MLTRAIN_CACHE to a folder with space.",
        ) from None


def _key(file: Path, digest: str, table_format: TableFormat) -> str:
    from datasets import __version__ as version

    # A .tsv and a .csv of one content are read differently.
    facts = [_READER, version.split(".")[0], digest, file.suffix.lower(), asdict(table_format)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40]


def _cached(entry: Path, file: Path, digest: str, table_format: TableFormat) -> StoredRows:
    """Write an entry where another process has not done so meanwhile, and return it."""
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(entry.with_name(f"{entry.name}.lock"), file):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return _opened(entry, digest)
        staging = Path(tempfile.mkdtemp(prefix=f"{_STAGING}{entry.name}-", dir=entry.parent))
        try:
            _write(staging, file, digest, table_format)
            shutil.rmtree(entry, ignore_errors=True)  # one that could not be opened
            staging.rename(entry)
        finally:
            # With the lock held, what else lies there of this entry was left by a process that was killed.
            for leftover in entry.parent.glob(f"{_STAGING}{entry.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
    return _opened(entry, digest)


@contextlib.contextmanager
def _alone(lock_file: Path, file: Path) -> Iterator[None]:
    lock = FileLock(lock_file)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("Another process reads %s; waiting for it.", file)
            lock.acquire()
    except NotImplementedError as error:  # a file system without locks: the work is done twice, to the same end
        log.debug("%s cannot be locked (%s).", lock_file, error)
    try:
        yield
    finally:
        lock.release()


def _write(folder: Path, file: Path, digest: str, table_format: TableFormat) -> None:
    from datasets import Features, Value
    from datasets.arrow_writer import ArrowWriter

    reader = _reader(file, table_format)
    places: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    writer = ArrowWriter(
        path=str(folder / _ROWS), features=Features({name: Value("string") for name in reader.columns})
    )
    for batch in reader.batches():
        writer.write_table(batch.values)
        places.append(np.asarray(batch.places, dtype=np.int64))
    writer.finalize()
    if _digest(file) != digest:
        raise DataError("the table changes while it is read", where=printable(str(file)), fix="Wait, and try again.")
    numbers = np.concatenate(places)
    np.save(folder / _PLACES, numbers)
    facts = {"rows": len(numbers), "unit": reader.unit, "bad": reader.bad.count, "first_bad": reader.bad.first}
    write_json(folder / _FACTS, {**facts, "table": file.name, "digest": digest})
    for name in (_ROWS, _PLACES):
        fsync_path(folder / name)
    fsync_path(folder)


def _opened(folder: Path, digest: str, keep: tempfile.TemporaryDirectory[str] | None = None) -> StoredRows:
    """Open an entry.

    Raises:
        OSError, ValueError, LookupError, TypeError: it is missing or damaged.
    """
    from datasets import Dataset

    facts: dict[str, Any] = read_json(folder / _FACTS)
    bad = BadRows(facts["bad"], [BadRow(place, what) for place, what in facts["first_bad"]])
    rows = Dataset.from_file(str(folder / _ROWS))
    places = np.load(folder / _PLACES, mmap_mode="r", allow_pickle=False)
    if not facts["rows"] == len(rows) == len(places):
        raise ValueError(f"{folder} is damaged")
    return StoredRows(rows, places, facts["unit"], bad, digest, keep)


def _reader(file: Path, table_format: TableFormat) -> TableReader:
    kind = kind_of(file)
    if kind == "delimited":
        return DelimitedTable(file, table_format)
    return JsonLinesTable(file) if kind == "json" else ParquetTable(file)


def _digest(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise DataError(
            f"the table cannot be read ({error.strerror})",
            where=printable(str(file)),
            fix="Give the path of a table that may be read.",
        ) from None
