"""Files that are either whole or absent: atomic writes, fsync, digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

__all__ = [
    "clear_leftovers",
    "content_digest",
    "file_sha256",
    "fsync_path",
    "json_text",
    "read_json",
    "read_record",
    "read_words",
    "write_json",
    "write_text",
]

_CHUNK = 1 << 20
_STAGING = re.compile(r"\..+\.(?P<pid>[0-9]+)-[0-9]+\.tmp")


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
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # what the user knows; a write names no file at all
        with contextlib.suppress(OSError):
            staging.unlink()
        raise


def clear_leftovers(folder: Path) -> None:
    """Delete what `write_text` left below a folder when its process was killed; what a live process writes stays."""
    for path in folder.rglob(".*.tmp"):
        found = _STAGING.fullmatch(path.name)
        if found is not None and not _is_alive(int(found["pid"])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def json_text(value: Any) -> str:
    """Return `value` as indented JSON. Non-finite numbers are refused: JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if not _is_utf8(text):  # a file name that is not; escaped it reads back as it was
        text = json.dumps(value, indent=2, allow_nan=False)
    return text + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically: see `json_text`."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_words(path: Path) -> str:
    """Read a short text, such as a fact of the system, without the white space around it; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


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


def content_digest(content: bytes) -> str:
    """Return the blake2b (160 bits, hexadecimal) of a content."""
    return hashlib.blake2b(content, digest_size=20).hexdigest()
