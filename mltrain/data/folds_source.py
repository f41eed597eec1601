"""Images whose splits stand in the split files: how a fold of any of them becomes labelled splits."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.data.fold_lists import ClassFolders, ListedFiles, read_fold, split_command
from mltrain.data.image_files import printable
from mltrain.data.labelled_splits import LabelledPaths, LabelledSplits

__all__ = ["read_class_folders", "read_listed"]


def read_class_folders(data_dir: Path, splits_dir: Path, fold: int) -> LabelledSplits:
    """Return a fold of class folders: the label of `raw/class/file` is `class`.

    Raises:
        DataError: the split files cannot be used, or a file is gone.
    """
    return read_listed(ClassFolders(data_dir, splits_dir), splits_dir, fold)


def read_listed(files: ListedFiles, splits_dir: Path, fold: int) -> LabelledSplits:
    """Return a fold of the files that the lists of `splits_dir` name.

    Raises:
        DataError: the split files cannot be used, or a file is gone.
    """
    listed = read_fold(splits_dir, fold, files)
    splits = {
        split: LabelledPaths(paths, [str(files.label(path)) for path in paths])
        for split, paths in (("train", listed.train), ("val", listed.val), ("test", listed.test))
    }
    _refuse_missing([*listed.train, *listed.val, *listed.test], files, splits_dir)
    return LabelledSplits(
        files.data_dir,
        splits,
        listed.records,
        labels_in_paths=not files.table,
        split_again=partial(split_command, files, splits_dir),
    )


def _refuse_missing(paths: list[str], files: ListedFiles, splits_dir: Path) -> None:
    root = os.fspath(files.data_dir)
    for path in paths:
        try:
            mode = os.stat(f"{root}/{path}").st_mode  # noqa: PTH116 (a third of the time, for many files)
        except OSError:
            mode = 0
        if not stat.S_ISREG(mode):
            file = files.data_dir / path
            what = "a link that leads nowhere" if file.is_symlink() and not mode else "no file" if mode else "not there"
            raise DataError(
                f"is named in the split but is {what}",
                where=printable(str(file)),
                fix=f"Put it back, or split again: {split_command(files, splits_dir)}",
            )
