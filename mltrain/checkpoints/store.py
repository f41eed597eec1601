"""The checkpoints of one run: committed by one rename, found newest first, verified before they are loaded."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltrain.checkpoints.manifest import verify_manifest, write_manifest
from mltrain.core.errors import CheckpointError
from mltrain.core.files import fsync_path, write_text
from mltrain.core.logging import log

__all__ = ["CheckpointStore", "Retention"]

_NAME = re.compile(r"step-([0-9]+)(?:\.([0-9]+))?")
_LEFTOVER = (".tmp-", ".trash-")
_LONGEST_POINTER = 100
# For the manifest, the folder's own entries and the blocks that files do not fill.
_SLACK_BYTES = 1 << 20


@dataclass(frozen=True)
class Retention:
    """What is kept when a checkpoint has been committed, and what pointers name then.

    newest: how many of the newest are kept; None keeps all there are.
    names: checkpoints that are kept in any case.
    pointers: pointer, such as "best" -> checkpoint. Kept as well.
    """

    newest: int | None = None
    names: frozenset[str] = frozenset()
    pointers: Mapping[str, str] = field(default_factory=dict)


class CheckpointStore:
    """A folder of checkpoints named `step-00000123`, and of pointers such as `best` and `last`: small text files.

    A step saved a second time becomes `step-00000123.2`: a committed checkpoint is never replaced.

    Args:
        folder: the `checkpoints` folder of a run.

    Attributes:
        retention: applied after each save.
        anchor: the last checkpoint that was due by rule, not because the run was stopped; None before the first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.retention = Retention()
        self.anchor: str | None = None
        self._reserved: set[str] = set()

    def stage(self, name: str) -> Path:
        """Return a new folder in which a checkpoint can be written."""
        staging = self.folder / f".tmp-{name}-{secrets.token_hex(4)}"
        staging.mkdir()
        return staging

    def save(
        self, name: str, write: Callable[[Path], Mapping[str, Any]], retention: Retention, staging: Path | None = None
    ) -> None:
        """Commit a checkpoint, move the pointers, then delete what is kept no longer.

        Args:
            name: from `next_name`.
            write: writes the content into the staging folder it is given; returns the entries in the manifest of files
                that are on the disk for sure, such as those of other processes.
            retention: what is kept.
            staging: from `stage`; None: made here.
        """
        staging = self.stage(name) if staging is None else staging
        try:
            write_manifest(staging, write(staging))
            staging.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        fsync_path(self.folder)
        self.point("last", self.folder / name)
        self.apply(retention)

    def require_space(self, num_bytes: int) -> None:
        """Raise OSError where the file system has no room for a checkpoint of this size."""
        free = shutil.disk_usage(self.folder).free
        if free < num_bytes + _SLACK_BYTES:
            needed = (num_bytes + _SLACK_BYTES) / 1e6
            raise OSError(f"it needs {needed:.1f} MB, and {free / 1e6:.1f} MB are free")

    def apply(self, retention: Retention) -> None:
        """Move the pointers and delete what is kept no longer, and what interrupted saves have left."""
        for pointer, name in retention.pointers.items():
            if (target := self.at(name)).is_dir() and self.pointed(pointer) != target:
                self.point(pointer, target)
        if retention.newest is not None:
            newest = {path.name for path in self.list()[: retention.newest]}
            self._rotate(newest | retention.names | self._pointed_names())
        self.clear_leftovers()

    def at(self, name: str) -> Path:
        """Return the place of a checkpoint; raises CheckpointError for a name that is none, such as a path."""
        if not _NAME.fullmatch(name):
            raise _no_checkpoint(str(self.folder / name))
        return self.folder / name

    def list(self) -> list[Path]:
        """Return the committed checkpoints, newest first; anything else in the folder is passed over."""
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [path for path in entries if _NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=_order, reverse=True)

    def point(self, name: str, target: Path) -> None:
        """Make the pointer `name` name a checkpoint."""
        write_text(self.folder / name, f"{target.name}\n")

    def pointed(self, name: str) -> Path | None:
        """Return the checkpoint that a pointer names, or None."""
        word = self._pointed_name(name)
        return self.folder / word if word is not None and (self.folder / word).is_dir() else None

    def newest_sound(self) -> Path | None:
        """Return the newest checkpoint that passes verification; each that does not is named in the log."""
        for path in self.list():
            try:
                verify_manifest(path)
            except CheckpointError as error:
                log.error("%s Falling back to the one before it.", error)
                continue
            return path
        return None

    def set_aside_after(self, path: Path) -> None:
        """Rename the checkpoints that are newer than `path`: a run that continues from there leaves them behind."""
        for newer in self.list():
            if _order(newer) > _order(path):
                aside = self.folder / f"superseded-{newer.name}-{secrets.token_hex(4)}"
                newer.rename(aside)
                log.warning("%s is newer than the checkpoint resumed from; kept as %s.", newer.name, aside.name)
        if self.pointed("last") != self.folder / path.name:
            self.point("last", path)

    def clear_leftovers(self) -> None:
        """Delete what an interrupted save or rotation left behind."""
        for path in self.folder.iterdir():
            if path.name.startswith(_LEFTOVER):
                with contextlib.suppress(OSError):
                    shutil.rmtree(path)

    def reserve(self, name: str) -> None:
        """Take note that a checkpoint of this name is being saved."""
        self._reserved.add(name)

    def next_name(self, step: int) -> str:
        """Return the name that a checkpoint saved now at `step` will have."""
        name, copy = f"step-{step:08d}", 2
        while name in self._reserved or (self.folder / name).exists():
            name, copy = f"step-{step:08d}.{copy}", copy + 1
        return name

    def _rotate(self, kept: set[str]) -> None:
        for path in self.list():
            if path.name not in kept:
                # Renamed first: a half-deleted folder must not look like a checkpoint.
                path.rename(self.folder / f".trash-{path.name}-{secrets.token_hex(4)}")

    def _pointed_names(self) -> set[str]:
        files = [path.name for path in self.folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        return {name for file in files if (name := self._pointed_name(file))}

    def _pointed_name(self, pointer: str) -> str | None:
        try:
            with (self.folder / pointer).open(encoding="utf-8") as stream:
                word = stream.read(_LONGEST_POINTER).strip()
        except (OSError, UnicodeDecodeError):
            return None
        return word if _NAME.fullmatch(word) else None


def _order(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise _no_checkpoint(str(path))
    return int(match[1]), int(match[2] or 1)


def _no_checkpoint(name: str) -> CheckpointError:
    return CheckpointError("not a checkpoint", where=name, fix="Name a folder such as step-00000123.")
