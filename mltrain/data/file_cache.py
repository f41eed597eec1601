"""What is known of files and of contents from earlier runs, in one SQLite file of the user's cache folder.

- A path has the stamp and the digest that its file had: while the stamp is the same, its content need not be read.
- A digest has a verdict: what keeps its content from being decoded, or "" where it decodes. The verdict is that of one
  decoder; another version of it judges anew.

Any number of processes may use it at once. A cache that cannot be read or written is done without.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock, Timeout

from mltrain.core.cache_folder import cache_folder
from mltrain.core.logging import log

__all__ = ["FileCache", "FileStamp"]

_NAME = "files-1.sqlite"  # the number is that of the tables
_TABLES = (
    "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, "
    "digest BLOB) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS verdicts (digest BLOB, decoder TEXT, flaw TEXT, PRIMARY KEY (digest, decoder)) "
    "WITHOUT ROWID",
)
_PATIENCE_S = 10
_KEYS_A_QUERY = 500
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

_Answer = TypeVar("_Answer")


class FileStamp(NamedTuple):
    """What the file system says of a file's content: size in bytes, times of change of content and of status."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """Return the stamp of a file's status."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class FileCache:
    """The cache of a folder; None, and any folder that cannot be used: one that knows and keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if folder is not None:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._connection = _connect(folder / _NAME)
            except (OSError, sqlite3.Error) as error:
                self._give_up(error)

    @classmethod
    def of_user(cls) -> FileCache:
        """Return the cache of whoever runs this."""
        return cls(cache_folder())

    def files(self, paths: Sequence[str]) -> dict[str, tuple[FileStamp, str]]:
        """Return absolute path -> (stamp, digest) of those paths that are known."""
        keys = {os.fsencode(path): path for path in paths}
        query = "SELECT path, size, mtime_ns, ctime_ns, digest FROM files WHERE path IN ({})"
        return {
            keys[key]: (FileStamp(size, mtime_ns, ctime_ns), digest.hex())
            for key, size, mtime_ns, ctime_ns, digest in self._select(query, list(keys))
        }

    def verdicts(self, digests: Iterable[str], decoder: str) -> dict[str, str]:
        """Return digest -> flaw ("": it decodes) of those digests on which a decoder's verdict is known."""
        keys = [bytes.fromhex(digest) for digest in digests]
        query = "SELECT digest, flaw FROM verdicts WHERE decoder = ? AND digest IN ({})"
        return {digest.hex(): flaw for digest, flaw in self._select(query, keys, decoder)}

    def keep(self, files: Mapping[str, tuple[FileStamp, str]], verdicts: Mapping[str, str], decoder: str) -> None:
        """Keep path -> (stamp, digest) and digest -> flaw."""
        file_rows = [(os.fsencode(path), *stamp, bytes.fromhex(digest)) for path, (stamp, digest) in files.items()]
        verdict_rows = [(bytes.fromhex(digest), decoder, flaw) for digest, flaw in verdicts.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", file_rows)
                connection.executemany("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", verdict_rows)

        self._ask(write, None)

    @contextlib.contextmanager
    def alone(self, waiting: str) -> Iterator[None]:
        """Let one process at a time into the block, where the cache can be used; `waiting` is logged by the others."""
        if self._connection is None or self._folder is None:
            yield
            return
        lock = FileLock(self._folder / "checking.lock")
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                log.info("%s", waiting)
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            log.debug("%s cannot be locked (%s).", lock.lock_file, error)
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _select(self, query: str, keys: Sequence[bytes], *first: str) -> list[tuple[Any, ...]]:
        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            rows = []
            for start in range(0, len(keys), _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                rows += connection.execute(query.format(", ".join("?" * len(some))), (*first, *some)).fetchall()
            return rows

        return self._ask(read, [])

    def _ask(self, question: Callable[[sqlite3.Connection], _Answer], otherwise: _Answer) -> _Answer:
        with self._lock:
            if self._connection is None:
                return otherwise
            try:
                return question(self._connection)
            except sqlite3.Error as error:
                self._give_up(error)
                return otherwise

    def _give_up(self, error: Exception) -> None:
        assert self._folder is not None
        self.close()
        file = self._folder / _NAME
        if getattr(error, "sqlite_errorcode", None) in _DAMAGED:
            for part in (file.with_name(f"{_NAME}-journal"), file):  # a journal without its file would mend another
                with contextlib.suppress(OSError):
                    part.unlink()
            log.warning("%s was damaged and is deleted: this time every image is checked.", file)
        else:
            log.warning("The cache %s cannot be used (%s): what is found out is not kept.", file, error)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=_PATIENCE_S, check_same_thread=False)
    try:
        for table in _TABLES:
            connection.execute(table)
    except BaseException:
        connection.close()
        raise
    return connection
