"""Whether a path that somebody wrote down names an image inside the data folder."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from pathlib import Path

from mltrain.data.image_files import IMAGE_SUFFIXES, printable

__all__ = ["FileCheck"]

_OF_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class FileCheck:
    """Checks paths relative to `root`. Where the links of a folder lead is looked up once: tables are long."""

    def __init__(self, root: Path) -> None:
        self._root, self._real_root = os.fspath(root), root.resolve()
        self._place = printable(self._root)
        self._inside: dict[str, bool] = {}

    def __call__(self, path: str) -> str | None:
        """Return what is wrong with the file and what to do, or None."""
        if path.startswith("/") or ".." in path.split("/") or _OF_WINDOWS.match(path):
            return (
                f"'{printable(path)}' leads out of the data folder. "
                f"Write paths relative to {self._place}, with / and without '..'."
            )
        suffix = posixpath.splitext(path)[1].lower()
        if suffix and suffix not in IMAGE_SUFFIXES:
            return f"'{printable(path)}' is no image file (kind {suffix}). Take the row out, or convert the file."
        try:
            status = self._status(path)
        except (OSError, RuntimeError, ValueError) as error:
            cause = "there is no file" if isinstance(error, FileNotFoundError) else "no access to the file"
            hint = "Write / between folders." if "\\" in path else "Restore it, or take the row out."
            return f"{cause} '{printable(path)}' in {self._place}. {hint}"
        if status is None:
            return (
                f"'{printable(path)}' is a link that leads out of the data folder {self._place}. Copy the file there."
            )
        if not stat.S_ISREG(status.st_mode):
            return f"'{printable(path)}' is a folder or a special file. Name an image."
        return None

    def _status(self, path: str) -> os.stat_result | None:
        """Return what the file system says of the file, or None where a link leads out of the data folder."""
        folder = posixpath.dirname(path)
        if folder not in self._inside:
            self._inside[folder] = self._leads_inside(folder)
        if not self._inside[folder]:
            return None
        file = f"{self._root}/{path}"
        status = os.lstat(file)
        if not stat.S_ISLNK(status.st_mode):
            return status
        return Path(file).stat() if self._leads_inside(path) else None

    def _leads_inside(self, path: str) -> bool:
        return Path(self._root, path).resolve().is_relative_to(self._real_root)
