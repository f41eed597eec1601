"""Cut a folder of images into a test set and folds, and write the split files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import content_digests
from mltrain.data.fold_assignment import LabelledFile, assign_hold_out, assign_k_folds
from mltrain.data.image_files import ImageFolder, printable, scan_image_folder
from mltrain.data.splits import FileRecord, Splits, write_splits

__all__ = ["SplitResult", "split_folder"]

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
class _Shares:
    """The shares of all files; `k_fold` where the validation sets are to partition what is not test."""

    test: float
    validation: float
    k_fold: bool


def split_folder(
    raw_data: str | Path,
    folds: int = 5,
    test_ratio: float = 0.15,
    ratio: Sequence[float] | None = None,
    seed: int = 42,
    output: str | Path | None = None,
    overwrite: bool = False,
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

    Raises:
        ConfigError: an argument is out of range.
        DataError: the images cannot be split so, or the files cannot be read or written.
    """
    shares = _shares(folds, test_ratio, ratio)
    raw, folder = _places(raw_data, output)
    images = scan_image_folder(raw)
    records = _records(images)
    files = [LabelledFile(path, path.split("/", 2)[1], record.digest) for path, record in records.items()]
    if shares.k_fold:
        assignment = assign_k_folds(files, folds=folds, test_ratio=shares.test, seed=seed)
    else:
        assignment = assign_hold_out(
            files, folds=folds, test_ratio=shares.test, validation_ratio=shares.validation, seed=seed
        )
    splits = Splits(
        method="k-fold" if shares.k_fold else "repeated hold-out",
        seed=seed,
        test_ratio=shares.test,
        validation_ratio=shares.validation,
        files=records,
        test=tuple(file.path for file in files if file.digest in assignment.test),
        validation=tuple(
            tuple(file.path for file in files if file.digest in digests) for digests in assignment.validation
        ),
    )
    outcome = write_splits(splits, folder, overwrite=overwrite)
    return SplitResult(splits, folder, outcome, _notices(images, records))


def _shares(folds: int, test_ratio: float, ratio: Sequence[float] | None) -> _Shares:
    if folds < (1 if ratio else 2):
        raise ConfigError(
            f"{folds} folds",
            where="--folds",
            fix="Give 2 or more; for a single split give 1 and --ratio TRAIN VAL TEST.",
        )
    if ratio is None:
        if not 0 <= test_ratio < 1:
            raise ConfigError(f"{test_ratio} is no share", where="--test_ratio", fix="Give 0 or more, and less than 1.")
        return _Shares(test_ratio, _fold_share(test_ratio, folds), k_fold=True)
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
    return _Shares(test, _fold_share(test, folds) if k_fold else validation, k_fold)


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


def _records(images: ImageFolder) -> dict[str, FileRecord]:
    """Return path below the data folder -> record, sorted by path."""
    files = [file for members in images.classes.values() for file in members]
    try:
        digests = content_digests(images.root / file.path for file in files)
    except OSError as error:
        raise DataError(
            f"the image cannot be read ({error.strerror})",
            where=printable(str(error.filename or images.root)),
            fix="Restore the file or its permissions.",
        ) from None
    records = {
        f"{images.root.name}/{file.path}": FileRecord(digest, file.size)
        for file, digest in zip(files, digests, strict=True)
    }
    return dict(sorted(records.items()))


def _notices(images: ImageFolder, records: dict[str, FileRecord]) -> list[str]:
    notices = []
    if copies := len(records) - len({record.digest for record in records.values()}):
        notices.append(f"{copies} files are exact copies of others; copies stay in one split.")
    if images.skipped:
        notices.append(f"Skipped: {', '.join(f'{count} {what}' for what, count in images.skipped.items())}.")
    return notices
