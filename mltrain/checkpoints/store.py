"""The checkpoints of one run: committed by one rename, found newest first, verified before they are loaded."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from mltrain.checkpoints.manifest import verify_manifest, write_manifest
from mltrain.core.errors import CheckpointError
from mltrain.core.files import fsync_path, write_text
from mltrain.core.logging import log

__all__ = ["CheckpointStore"]

_NAME = re.compile(r"step-([0-9]+)(?:\.([0-9]+))?")
_LEFTOVER = (".tmp-", ".trash-")


class CheckpointStore:
    """A folder of checkpoints named `step-00000123`, and the pointers `best` and `last`, which are small text files.

    A step saved a second time becomes `step-00000123.2`: a committed checkpoint is never replaced.

    Args:
        folder: the `checkpoints` folder of a run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Commit a checkpoint and return its folder.

        Args:
            step: optimizer steps done.
            write: writes the content into the staging folder it is given.
        """
        staging = self.folder / f".tmp-{step}-{secrets.token_hex(4)}"
        staging.mkdir()
        try:
            write(staging)
            write_manifest(staging)
            target = self.folder / self.next_name(step)
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        fsync_path(self.folder)
        self.point("last", target)
        return target

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
        try:
            word = (self.folder / name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        path = self.folder / word
        return path if _NAME.fullmatch(word) and path.is_dir() else None

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

    def rotate(self, keep: Iterable[Path]) -> None:
        """Delete all checkpoints but those to keep and those that a pointer names; clear away leftovers."""
        kept = {path.name for path in keep} | {path.name for name in ("best", "last") if (path := self.pointed(name))}
        for path in self.list():
            if path.name not in kept:
                # Renamed first: a half-deleted folder must not look like a checkpoint.
                path.rename(self.folder / f".trash-{path.name}-{secrets.token_hex(4)}")
        self.clear_leftovers()

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

    def next_name(self, step: int) -> str:
        """Return the name that a checkpoint saved now at `step` will have."""
        name, copy = f"step-{step:08d}", 2
        while (self.folder / name).exists():
            name, copy = f"step-{step:08d}.{copy}", copy + 1
        return name


def _order(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError("not a checkpoint", where=str(path), fix="Name a folder such as step-00000123.")
    return int(match[1]), int(match[2] or 1)
