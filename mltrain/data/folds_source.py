"""Images whose splits stand in the split files: how a fold of any of them becomes labelled splits."""

from __future__ import annotations

from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.data.fold_lists import ClassFolders, ListedFiles, read_fold, split_command
from mltrain.data.image_files import printable
from mltrain.data.labelled_splits import LabelledPaths, LabelledSplits

__all__ = ["read_class_folders", "read_listed"]


def read_class_folders(data_dir: Path, splits_dir: Path, fold: int) -> LabelledSplits:
    """Return a fold of class folders: the label of `raw/class/file` is `class`.

    Raises:
        DataError: the split files cannot be used, or a file is gone or has changed since it was split.
    """
    return read_listed(ClassFolders(data_dir, splits_dir), splits_dir, fold)


def read_listed(files: ListedFiles, splits_dir: Path, fold: int) -> LabelledSplits:
    """Return a fold of the files that the lists of `splits_dir` name.

    Raises:
        DataError: the split files cannot be used, or a file is gone or has changed since it was split.
    """
    listed = read_fold(splits_dir, fold, files)
    splits = {
        split: LabelledPaths(paths, [str(files.label(path)) for path in paths])
        for split, paths in (("train", listed.train), ("val", listed.val), ("test", listed.test))
    }
    result = LabelledSplits(files.data_dir, splits, listed.records, labels_in_paths=not files.table)
    _check_files(result, files, splits_dir)
    return result


def _check_files(splits: LabelledSplits, files: ListedFiles, splits_dir: Path) -> None:
    for path in (path for part in splits.splits.values() for path in part.paths):
        try:
            size = (splits.root / path).stat().st_size
        except OSError:
            raise DataError(
                "is named in the split but is not there",
                where=printable(str(splits.root / path)),
                fix=f"Put it back, or split again: {split_command(files, splits_dir)}",
            ) from None
        recorded = splits.records.get(path)
        if recorded is not None and size != recorded.size:
            raise DataError(
                f"has {size} bytes; it had {recorded.size} when it was split",
                where=printable(str(splits.root / path)),
                fix=f"Put the old file back, or split again: {split_command(files, splits_dir)}",
            )
