"""Which layout a data folder has, and its images as labelled splits, whichever it is; each has been found to decode.

- A table (`data.table`) with a column that says train, val or test; or with the split files of `ml-split --table`.
- Class folders with the split files of `ml-split`: `raw/class/file` and `splits/`.
- Class folders that are divided already: `train/class/file`, `val/class/file`, `test/class/file`. This is what a folder
  holds that has neither split files nor `raw`.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.divided_source import divided_folders, read_divided
from mltrain.data.folds_source import read_class_folders
from mltrain.data.image_files import IMAGE_SUFFIXES, first_few, printable
from mltrain.data.image_table import TableColumns, read_image_table
from mltrain.data.labelled_splits import LabelledSplits
from mltrain.data.sound_images import OnCorrupt, sound_images
from mltrain.data.table_source import divided_by_column, divided_by_lists

__all__ = ["read_image_splits"]


def read_image_splits(
    data_dir: Path,
    fold: int,
    *,
    splits_dir: Path | None,
    table: str | None,
    columns: TableColumns,
    on_corrupt: OnCorrupt = "stop",
) -> LabelledSplits:
    """Return the images of a data folder, with their classes, in splits.

    Args:
        data_dir: the folder that paths are relative to.
        fold: which fold of split files; 0 where the data is divided otherwise.
        splits_dir: folder of the split files. None: `splits` in `data_dir`, if it is there.
        table: a CSV or TSV file, relative to `data_dir`. None: class folders.
        columns: the table's columns.
        on_corrupt: whether images that cannot be decoded stop, or are left out: see `sound_images`.

    Raises:
        ConfigError: keys that contradict each other or the layout.
        DataError: the data cannot be used.
    """
    if not data_dir.is_dir():
        what = "this is not a folder" if data_dir.exists() else "there is no such folder"
        raise DataError(what, where=printable(str(data_dir)), fix="Set data.data_dir to the data folder.")
    if table is not None:
        splits = _read_table(data_dir, fold, splits_dir, data_dir / table, columns)
    elif columns.split is not None:
        raise ConfigError("needs data.table", where="data.split_column", fix="Name the table, or leave out the column.")
    elif columns != TableColumns():
        key = "path" if columns.path != TableColumns().path else "label"
        raise ConfigError(
            "needs data.table", where=f"data.{key}_column", fix="Name the table, or leave out the column."
        )
    else:
        splits = _read_folders(data_dir, fold, splits_dir)
    splits.refuse_unusable()
    return sound_images(splits, on_corrupt)


def _read_table(
    data_dir: Path, fold: int, splits_dir: Path | None, file: Path, columns: TableColumns
) -> LabelledSplits:
    if not file.exists():
        raise DataError(
            "there is no such table",
            where=printable(str(file)),
            fix=f"Set data.table to its path, relative to data.data_dir ({printable(str(data_dir))}).",
        )
    if columns.split is None:
        return divided_by_lists(read_image_table(file, data_dir, columns), splits_dir or data_dir / "splits", fold)
    _refuse_folds(fold, splits_dir, f"data.split_column ({printable(columns.split)}) divides the data")
    return divided_by_column(read_image_table(file, data_dir, columns))


def _read_folders(data_dir: Path, fold: int, splits_dir: Path | None) -> LabelledSplits:
    usual = data_dir / "splits"
    folders = divided_folders(data_dir)
    if splits_dir is not None or usual.exists() or (data_dir / "raw").exists():
        splits = read_class_folders(data_dir, splits_dir or usual, fold)
        if not folders:
            return splits
        names = ", ".join(sorted(path.name for path in folders.values()))
        remark = f"{printable(str(data_dir))} also has folders called {names}: the split files are used, not these."
        return replace(splits, remarks=(*splits.remarks, remark))
    if folders:
        _refuse_folds(fold, splits_dir, f"the folders of {printable(str(data_dir))} divide the data")
        return read_divided(data_dir, folders)
    _refuse_class_folders(data_dir)
    raise DataError(
        "there are neither split files nor folders called train and val",
        where=printable(str(data_dir)),
        fix="Put the images into raw/<class>/ and run ml-split, or into train/<class>/ and val/<class>/, or name a "
        "table with data.table.",
    )


def _refuse_class_folders(data_dir: Path) -> None:
    """Raise DataError where a folder holds what belongs into `raw`: class folders."""
    names = [path.name for path in sorted(data_dir.iterdir()) if path.name[0] != "." and _has_images(path)]
    if not names:
        return
    above = data_dir.absolute().parent
    fix = f"Set data.data_dir to the folder around it, {printable(str(above))}"
    if not (above / "splits").exists():
        fix = f"{fix}, once ml-split --raw_data {shlex.quote(printable(str(data_dir)))} has split it"
    raise DataError(
        f"holds class folders ({first_few(names)}) and no split files", where=printable(str(data_dir)), fix=f"{fix}."
    )


def _has_images(folder: Path) -> bool:
    try:
        return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())
    except OSError:  # a file, or without access
        return False


def _refuse_folds(fold: int, splits_dir: Path | None, reason: str) -> None:
    if fold != 0:
        raise ConfigError(f"is {fold}, but {reason}, so there is one fold", where="data.fold", fix="Set it to 0.")
    if splits_dir is not None:
        raise ConfigError(f"is set, but {reason}", where="data.splits_dir", fix="Leave it out.")
