"""`MANIFEST.json`: size and sha256 of every file of a checkpoint. Without a manifest a folder is no checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mltrain.core.errors import CheckpointError
from mltrain.core.files import file_sha256, fsync_path, write_text

__all__ = ["MANIFEST", "flushed", "verify_manifest", "write_manifest"]

MANIFEST = "MANIFEST.json"
# All that is ever written here; what else lies in a checkpoint, a pickle say, came from elsewhere.
_KINDS = (".json", ".safetensors")


def write_manifest(folder: Path, known: Mapping[str, Any] | None = None) -> None:
    """Flush every file of a folder to the disk and write its manifest.

    Args:
        folder: of the checkpoint.
        known: the entries of files that were flushed already.
    """
    known = known or {}
    own = flushed([path for path in folder.iterdir() if path.name not in known])
    write_text(folder / MANIFEST, _text(dict(sorted({**known, **own}.items()))))
    fsync_path(folder)


def flushed(paths: Iterable[Path]) -> dict[str, Any]:
    """Flush files to the disk and return their entries: name -> size and sha256."""
    files = {}
    for path in sorted(paths):
        fsync_path(path)
        files[path.name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    return files


def verify_manifest(folder: Path) -> None:
    """Check a checkpoint against its manifest.

    Raises:
        CheckpointError: a file is missing, added, truncated, changed, a link or of a kind that is never written here;
            or there is no readable manifest.
    """
    if folder.is_symlink():
        raise _damaged(folder, "it is a link to another place")
    try:
        text = (folder / MANIFEST).read_bytes().decode()
        listed: dict[str, dict[str, Any]] = json.loads(text)["files"]
        # Compared as it is written, so that no byte of it can change unseen either.
        sound = text == _text(listed)
    except (OSError, ValueError, LookupError, TypeError):
        raise _damaged(folder, f"{MANIFEST} is missing or cannot be read") from None
    if not sound:
        raise _damaged(folder, f"the content of {MANIFEST} has changed")
    try:
        _verify_files(folder, listed)
    except (OSError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"its files cannot be checked ({error})") from None


def _verify_files(folder: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    entries = sorted(folder.iterdir())
    for path in entries:
        if path.is_symlink() or path.suffix not in _KINDS:
            raise _damaged(folder, f"{path.name} is {'a link' if path.is_symlink() else 'no file of a checkpoint'}")
    present = {path.name for path in entries} - {MANIFEST}
    if present != set(listed):
        odd = sorted(present ^ set(listed))
        raise _damaged(folder, f"its files are not those of its manifest ({', '.join(odd)})")
    for name, facts in listed.items():
        path = folder / name
        if path.stat().st_size != facts["size"]:
            raise _damaged(folder, f"{name} has {path.stat().st_size} bytes instead of {facts['size']}")
        if file_sha256(path) != facts["sha256"]:
            raise _damaged(folder, f"the content of {name} has changed")


def _text(files: Mapping[str, Any]) -> str:
    return json.dumps({"format": 1, "files": files}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _damaged(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(f"damaged checkpoint: {why}", where=str(folder), fix="Use another checkpoint of the run.")
