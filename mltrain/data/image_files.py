"""The image files of a folder that has one subfolder a class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mltrain.core.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageFolder",
    "first_few",
    "is_one_line",
    "printable",
    "scan_image_folder",
]

# The usual suffixes of the formats that `image_decoding` opens.
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".webp",
    ".tif", ".tiff", ".avif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".ico", ".qoi", ".pcx", ".tga",
})  # fmt: skip

_IGNORED_FOLDERS = frozenset({"__pycache__", "__MACOSX"})
_SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
_LAYOUT = "Put the images into one folder a class, as in {root}/cat/1.jpg and {root}/dog/2.jpg."


@dataclass(frozen=True)
class ImageFolder:
    """What a scan found.

    classes: class -> its image files, as `class/file` with "/"; both sorted by name.
    skipped: what was not taken -> how many, in words for people ("files of kind .txt"). Hidden files are not counted.
    """

    root: Path
    classes: dict[str, list[str]]
    skipped: dict[str, int]


def printable(name: str) -> str:
    """Return a file name with line breaks, control characters and bytes that are not UTF-8 written as escapes."""
    if name.isascii() and name.isprintable():
        return name
    try:
        content = os.fsencode(name)
    except UnicodeEncodeError:  # half of a character: a text of the user's, no name of a file
        content = name.encode("utf-8", "backslashreplace")
    decoded = content.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)


def first_few(names: Sequence[str], limit: int = 3) -> str:
    """Return the first names, printable, and how many more there are: "a, b, c and 4 more"."""
    shown = ", ".join(printable(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def scan_image_folder(root: Path, *, fewest_classes: int = 2) -> ImageFolder:
    """List the images of `root`, whose immediate subfolders are the classes and may hold folders of their own.

    Files are known by their suffix; their content is not read. Hidden files and folders, and those that tools leave
    behind, are passed over. Links are followed; within a class each folder is listed once, however many links lead to
    it.

    Raises:
        DataError: the folder is missing or unreadable, holds no class folders or fewer than `fewest_classes`, a class
            has no images, a link is broken, or a name cannot be written as a line of UTF-8.
    """
    if not root.is_dir():
        what = "this is not a folder" if root.exists() else "there is no such folder"
        raise DataError(what, where=printable(str(root)), fix="Give the folder that holds the class folders.")
    scan = _Scan(root)
    class_names, loose = scan.class_names()
    if not class_names:
        what = "no class folders, but loose images" if loose else "no class folders"
        raise DataError(what, where=printable(str(root)), fix=_LAYOUT.format(root=printable(root.name)))
    classes = {name: scan.images_below(name) for name in class_names}
    scan.refuse_unusable()
    _refuse_unusable_classes(root, classes, scan.skipped, fewest_classes)
    if loose:
        scan.skipped[f"images outside the class folders, directly in {printable(root.name)}"] = loose
    return ImageFolder(root, classes, dict(sorted(scan.skipped.items())))


class _Scan:
    """One walk over the folder; what makes files unusable is collected, so that one message can name all of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.skipped: Counter[str] = Counter()
        self._unwritable = [] if is_one_line(root.name) else [root.name]
        self._unreachable: list[str] = []

    def class_names(self) -> tuple[list[str], int]:
        """Return the names of the class folders, and the number of images beside them."""
        names, loose = [], 0
        for entry in self._entries(""):
            sort = self._sort(entry, entry.name)
            if sort == "folder":
                names.append(entry.name)
            loose += sort == "image"
        return names, loose

    def images_below(self, class_name: str) -> list[str]:
        """Return the images of a class, sorted. Folders come before links, so that a link adds only what is new."""
        images: list[str] = []
        folders, links = [class_name], list[str]()
        seen: set[tuple[int, int]] = set()
        while folders or links:
            folder = (folders or links).pop()
            identity = self._identity(folder)
            if identity in seen:
                self.skipped["links to folders that are listed already"] += 1
                continue
            seen.add(identity)
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}"
                sort = self._sort(entry, path)
                if sort == "folder":
                    (links if entry.is_symlink() else folders).append(path)
                elif sort == "image":
                    self._take(entry, path, images)
        return sorted(images)

    def refuse_unusable(self) -> None:
        """Raise for the first sort of unusable file that was met."""
        for paths, what, fix in (
            (self._unwritable, "names with line breaks or bytes that are not UTF-8", "Rename them."),
            (self._unreachable, "broken links, or files without access", "Mend or remove them."),
        ):
            if paths:
                raise DataError(f"{what}: {first_few(paths)}", where=printable(str(self.root)), fix=fix)

    def _sort(self, entry: os.DirEntry[str], path: str) -> Literal["folder", "image", "other"]:
        if _is_folder(entry):
            return "folder"
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 (Path.exists raises for some)
            self._unreachable.append(path)
            return "other"
        suffix = _suffix(entry.name)
        if suffix in IMAGE_SUFFIXES:
            return "image"
        self.skipped[f"files of kind {printable(suffix)}" if suffix else "files without a suffix"] += 1
        return "other"

    def _take(self, entry: os.DirEntry[str], path: str, images: list[str]) -> None:
        try:
            regular = entry.is_file()
        except OSError:
            self._unreachable.append(path)
            return
        if not regular:
            self.skipped["special files (pipes, sockets, devices)"] += 1
            return
        images.append(path)

    def _identity(self, folder: str) -> tuple[int, int]:
        try:
            status = (self.root / folder).stat()
        except OSError as error:
            raise self._unlisted(folder, error) from None
        return status.st_dev, status.st_ino

    def _unlisted(self, folder: str, error: OSError) -> DataError:
        return DataError(
            f"the folder cannot be listed ({error.strerror})",
            where=printable(str(self.root / folder)),
            fix="Mend its permissions and those of the folders around it, or move it out of the data.",
        )

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                listed = [entry for entry in entries if entry.name[0] != "." and entry.name not in _IGNORED_FOLDERS]
        except OSError as error:
            raise self._unlisted(folder, error) from None
        self._unwritable.extend(f"{folder}/{entry.name}" for entry in listed if not is_one_line(entry.name))
        return sorted(listed, key=lambda entry: entry.name)


def _refuse_unusable_classes(
    root: Path, classes: dict[str, list[str]], skipped: Counter[str], fewest_classes: int
) -> None:
    place, layout = printable(str(root)), _LAYOUT.format(root=printable(root.name))
    empty = [name for name, images in classes.items() if not images]
    if empty:
        others = f" (skipped: {', '.join(f'{count} {what}' for what, count in skipped.items())})" if skipped else ""
        raise DataError(
            f"class folders without images: {first_few(empty)}{others}",
            where=place,
            fix="Add images to them, or move the folders away.",
        )
    if len(classes) < fewest_classes:
        raise DataError(f"a single class, {first_few(list(classes))}; at least two are needed", where=place, fix=layout)
    nested = all(path.count("/") > 1 for images in classes.values() for path in images)
    if nested and _SPLIT_NAMES.issuperset(name.lower() for name in classes):
        raise DataError(
            f"the folders {first_few(list(classes))} look like splits, not classes",
            where=place,
            fix=f"{layout} Data that is divided already needs no ml-split: set data.data_dir to this folder.",
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def is_one_line(name: str) -> bool:
    """Return whether a name can be written as one line of UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name.splitlines()) == 1


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122
