"""Files that are either whole or absent: atomic writes, fsync, digests."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["content_digests", "file_sha256", "fsync_path", "read_json", "read_record", "write_json", "write_text"]

_CHUNK = 1 << 20
_FILES_A_TASK = 64


def fsync_path(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` so that a reader, and a crash at any moment, sees the old content or the new, never a part."""
    staging = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with staging.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            staging.unlink()
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Non-finite numbers are refused: JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if not _is_utf8(text):  # a file name that is not; escaped it reads back as it was
        text = json.dumps(value, indent=2, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_record(path: Path) -> dict[str, Any]:
    """Read what was noted in a JSON file; a file that is missing, torn or of another kind says nothing: {}."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _blake2b(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def content_digests(paths: Iterable[Path], *, threads: int = 8) -> list[str]:
    """Return the blake2b (160 bits, hexadecimal) of each file, in the order given; files are read in parallel."""
    files = list(paths)
    # A thread takes many at a time: small files are hashed faster than handed over.
    parts = [files[start : start + _FILES_A_TASK] for start in range(0, len(files), _FILES_A_TASK)]
    with ThreadPoolExecutor(threads) as pool:
        return list(itertools.chain.from_iterable(pool.map(lambda part: [_blake2b(path) for path in part], parts)))
