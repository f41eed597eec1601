"""Images that are divided already: `train/class/file`, `val/class/file` and `test/class/file`."""

from __future__ import annotations

from pathlib import Path

from mltrain.core.errors import DataError
from mltrain.data.image_files import ImageFolder, first_few, printable, scan_image_folder
from mltrain.data.labelled_splits import SPLITS, LabelledPaths, LabelledSplits, split_called

__all__ = ["divided_folders", "read_divided"]


def divided_folders(data_dir: Path) -> dict[str, Path]:
    """Return the folders that are called like splits: "train", "val" and "test" where there are any.

    Raises:
        DataError: two folders for one split, or the data folder cannot be listed.
    """
    found: dict[str, Path] = {}
    try:
        folders = sorted(path for path in data_dir.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(
            f"the data folder cannot be listed ({error.strerror})",
            where=printable(str(data_dir)),
            fix="Set data.data_dir to a folder that may be read.",
        ) from None
    for folder in folders:
        split = split_called(folder.name)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"two folders for the {split} split: {first_few([found[split].name, folder.name])}",
                where=printable(str(data_dir)),
                fix="Keep one of them.",
            )
        found[split] = folder
    return found


def read_divided(data_dir: Path, folders: dict[str, Path]) -> LabelledSplits:
    """Return the images of folders that stand for splits; `folders` is what `divided_folders` found.

    Raises:
        DataError: there is no training folder, or the images of a folder cannot be used: see `scan_image_folder`.
    """
    if "train" not in folders:
        raise DataError(
            f"there is {first_few([folder.name for folder in folders.values()])}, but no train",
            where=printable(str(data_dir)),
            fix="Call the folder of the training images train.",
        )
    splits, remarks = {split: LabelledPaths() for split in SPLITS}, []
    for split, folder in folders.items():
        scan = _scan(folder, split)
        for label, images in scan.classes.items():
            splits[split].paths.extend(f"{folder.name}/{path}" for path in images)
            splits[split].labels.extend([label] * len(images))
        if scan.skipped:
            skipped = ", ".join(f"{count} {what}" for what, count in scan.skipped.items())
            remarks.append(f"Skipped in {printable(folder.name)}: {skipped}.")
    return LabelledSplits(data_dir, splits, records={}, labels_in_paths=True, remarks=tuple(remarks))


def _scan(folder: Path, split: str) -> ImageFolder:
    try:
        return scan_image_folder(folder, fewest_classes=2 if split == "train" else 1)
    except DataError as error:
        if split != "train":
            error.fix = f"{error.fix} Or move it away: training goes without a {split} split."
        raise
