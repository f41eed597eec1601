"""Cut images into a test set and folds, and write the split files: class folders here, tables in `split_table`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.class_names import alike_classes
from mltrain.data.fold_assignment import Assignment, LabelledFile, assign_hold_out, assign_k_folds
from mltrain.data.grouped_assignment import assign_grouped_folds, assign_grouped_hold_out
from mltrain.data.image_contents import examine_images
from mltrain.data.image_files import first_few, printable, scan_image_folder
from mltrain.data.sound_images import OnCorrupt, corrupt_images, left_out
from mltrain.data.split_files import FileRecord, class_of
from mltrain.data.splits import Splits, write_splits

__all__ = ["Labelled", "Shares", "SplitResult", "cut", "read_records", "read_shares", "split_folder", "split_notices"]

# Shares are typed with a few decimals: 0.283 of 0.85 is meant to be a third.
_SAME_SHARE = 1e-3


@dataclass(frozen=True)
class SplitResult:
    """What `split_folder` did.

    splits: the assignment.
    folder: where the split files lie.
    outcome: "written", or "unchanged" where the folder held the same splits already.
    notices: what the user should know of the data, a sentence each.
    """

    splits: Splits
    folder: Path
    outcome: Literal["written", "unchanged"]
    notices: list[str]


@dataclass(frozen=True)
class Shares:
    """What was asked for. `k_fold` where the validation sets are to partition what is not test."""

    folds: int
    test: float
    validation: float
    k_fold: bool
    seed: int


@dataclass(frozen=True)
class Labelled:
    """The images, or the rows of a table, to be cut; a row's path is its ID.

    place: the folder or the table that they come from, for messages.
    records: path -> digest and size, sorted by path.
    labels: path -> class.
    groups: path -> what must stay on one side; empty where nothing but copies must.
    table: what `splits.json` says of the table they come from; empty for class folders.
    of: what they are, for messages.
    """

    place: Path
    records: dict[str, FileRecord]
    labels: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    table: Mapping[str, Any] = field(default_factory=dict)
    of: str = "image"


def split_folder(
    raw_data: str | Path,
    folds: int = 5,
    test_ratio: float = 0.15,
    ratio: Sequence[float] | None = None,
    seed: int = 42,
    output: str | Path | None = None,
    overwrite: bool = False,
    on_corrupt: OnCorrupt = "stop",
) -> SplitResult:
    """Split a folder of images, one subfolder a class, and write `test.txt`, `fold_K_*.txt` and `splits.json`.

    The result depends on the content of the files, the seed and the shares; not on names or the order of listing.
    Stratified by class; files of equal content stay on one side.

    Args:
        raw_data: the folder that holds the class folders. The data folder, to which the lists are relative, is its
            parent.
        folds: number of folds; at least 2, or 1 with `ratio`.
        test_ratio: share of the files held out from all folds, 0 <= share < 1. Not used with `ratio`.
        ratio: shares of training, validation and test, which sum to 1. If validation is 1/folds of what is not test
            (within 0.001), this is k-fold; otherwise each fold is a hold-out drawn anew.
        seed: any integer.
        output: folder of the split files. Default: `splits` in the data folder.
        overwrite: replace other splits in `output`.
        on_corrupt: images that cannot be decoded: "stop" raises, "skip" leaves them out of all lists.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the images cannot be split so, or the files cannot be read or written.
    """
    shares = read_shares(folds, test_ratio, ratio, seed)
    raw, folder = _places(raw_data, output)
    images = scan_image_folder(raw)
    paths = [f"{raw.name}/{path}" for members in images.classes.values() for path in members]
    labels = {path: class_of(path) for path in paths}
    records, flaws = read_records(raw.parent, labels, on_corrupt)
    splits = cut(Labelled(raw, records, labels), shares)
    outcome = write_splits(splits, folder, overwrite=overwrite)
    skipped = ", ".join(f"{count} {what}" for what, count in images.skipped.items())
    notices = [*split_notices(splits, flaws), *([f"Skipped: {skipped}."] if skipped else [])]
    return SplitResult(splits, folder, outcome, notices)


def cut(images: Labelled, shares: Shares) -> Splits:
    """Return the splits of images or rows.

    Raises:
        DataError: they cannot be cut so.
    """
    files = [LabelledFile(path, images.labels[path], record.digest) for path, record in images.records.items()]
    try:
        assignment = _assign(files, images, shares)
    except DataError as error:
        error.where = printable(str(images.place))
        raise
    return Splits(
        method="k-fold" if shares.k_fold else "repeated hold-out",
        seed=shares.seed,
        test_ratio=shares.test,
        validation_ratio=shares.validation,
        files=images.records,
        labels=images.labels,
        test=tuple(file.path for file in files if file.digest in assignment.test),
        validation=tuple(
            tuple(file.path for file in files if file.digest in digests) for digests in assignment.validation
        ),
        table=images.table,
    )


def _assign(files: list[LabelledFile], images: Labelled, shares: Shares) -> Assignment:
    k_folds, hold_out = partial(assign_k_folds, of=images.of), partial(assign_hold_out, of=images.of)
    if images.groups:
        k_folds, hold_out = (
            partial(assign_grouped_folds, groups=images.groups),
            partial(assign_grouped_hold_out, groups=images.groups),
        )
    if shares.k_fold:
        return k_folds(files, folds=shares.folds, test_ratio=shares.test, seed=shares.seed)
    return hold_out(
        files, folds=shares.folds, test_ratio=shares.test, validation_ratio=shares.validation, seed=shares.seed
    )


def read_records(
    root: Path, labels: Mapping[str, str], on_corrupt: OnCorrupt
) -> tuple[dict[str, FileRecord], dict[str, str]]:
    """Return path -> record of the images that decode, sorted by path, and path -> flaw of those that are left out.

    Args:
        root: the data folder.
        labels: path relative to `root` -> class, of all images.
        on_corrupt: see `split_folder`.

    Raises:
        DataError: a file cannot be read, or not decoded with "stop"; or a class has no image that can be decoded.
    """
    contents = examine_images(root, labels)
    flaws = {path: content.flaw for path, content in contents.items() if content.flaw is not None}
    if flaws and on_corrupt == "stop":
        raise corrupt_images(root, flaws, "--on_corrupt skip")
    records = {
        path: FileRecord(content.digest, content.stamp.size) for path, content in contents.items() if path not in flaws
    }
    if lost := sorted(set(labels.values()) - {labels[path] for path in records}):
        raise DataError(
            f"no image of class {first_few(lost)} can be decoded",
            where=printable(str(root)),
            fix="Replace them with whole images, or leave out the class.",
        )
    return dict(sorted(records.items())), flaws


def split_notices(splits: Splits, flaws: Mapping[str, str]) -> list[str]:
    """Return a sentence about images that were left out, exact copies and classes that look alike, if there are any."""
    copies = len(splits.files) - len({record.digest for record in splits.files.values()})
    files = "1 file is an exact copy of another" if copies == 1 else f"{copies} files are exact copies of others"
    without = [left_out(flaws)] if flaws else []
    return [*without, *([f"{files}; copies stay in one split."] if copies else []), *alike_classes(splits.classes)]


def read_shares(folds: int, test_ratio: float, ratio: Sequence[float] | None, seed: int) -> Shares:
    """Return what the arguments of a split ask for.

    Raises:
        ConfigError: an argument is out of range.
    """
    if folds < (1 if ratio else 2):
        raise ConfigError(
            f"{folds} folds",
            where="--folds",
            fix="Give 2 or more; for a single split give 1 and --ratio TRAIN VAL TEST.",
        )
    if ratio is None:
        if not 0 <= test_ratio < 1:
            raise ConfigError(f"{test_ratio} is no share", where="--test_ratio", fix="Give 0 or more, and less than 1.")
        return Shares(folds, test_ratio, _fold_share(test_ratio, folds), True, seed)
    given = " ".join(str(share) for share in ratio)
    if len(ratio) != 3 or not all(math.isfinite(share) for share in ratio):
        raise ConfigError(f"'{given}' are not three shares", where="--ratio", fix="Give TRAIN VAL TEST.")
    train, validation, test = ratio
    if train <= 0 or validation <= 0 or test < 0:
        raise ConfigError(
            f"'{given}' leaves no files for training or validation, or is negative",
            where="--ratio",
            fix="Give a positive TRAIN and VAL, and a TEST of 0 or more.",
        )
    if abs(sum(ratio) - 1) > 1e-6:
        raise ConfigError(f"'{given}' sums to {sum(ratio):g}", where="--ratio", fix="Give shares that sum to 1.")
    k_fold = abs(validation / (train + validation) - 1 / folds) <= _SAME_SHARE
    return Shares(folds, test, _fold_share(test, folds) if k_fold else validation, k_fold, seed)


def _fold_share(test: float, folds: int) -> float:
    return round((1 - test) / folds, 9)


def _places(raw_data: str | Path, output: str | Path | None) -> tuple[Path, Path]:
    """Return the image folder and the folder of the split files; links in the first keep their own names."""
    raw = Path(raw_data).absolute()
    if ".." in raw.parts:
        raw = raw.resolve()
    folder = Path(output) if output is not None else raw.parent / "splits"
    if folder.resolve().is_relative_to(raw.resolve()):
        raise ConfigError(
            f"{printable(str(folder))} lies among the images, where it would be taken for a class",
            where="--output",
            fix="Choose a folder outside --raw_data.",
        )
    return raw, folder
