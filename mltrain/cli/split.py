"""`ml-split`: cut a folder of images, those that a table names, or the rows of a table, into a test set and folds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mltrain.workflows.split import SplitResult

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Cut a folder of images, one subfolder a class, or the images or rows of a table, into a test set and folds."

_TABLE_OPTIONS = {
    "data_dir": "folder that the paths are relative to (default: the table's)",
    "path_column": "column of image files (default: path)",
    "label_column": "column of classes (default: label)",
    "group_column": "column of what must stay on one side, such as a patient",
}
_ROW_OPTIONS = {
    "label": "column to stratify by; numbers of many values by bins",
    "group": "column of what must stay on one side, such as a patient",
    "content": "columns in which rows are equal that must stay on one side (default: all but the label)",
    "bins": "number of bins of a numeric label (default: chosen where it has many values)",
    "column_names": "names of the columns of a file whose first line is a row already",
    "quoting": "csv: values with delimiters stand in double quotes (default); none: a quote is a character like others",
    "on_bad_rows": "rows without a label or a group: stop with a list of them (default), or skip them",
}
_SHARED = ("folds", "test_ratio", "ratio", "seed", "output", "overwrite")
_UNLIMITED = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ml-split`."""
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--raw_data",
        "--raw-data",
        type=Path,
        metavar="DIR",
        help="folder that holds one folder of images a class; the lists are relative to its parent",
    )
    images.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="CSV or TSV file of images and labels; with --label or --rows any table",
    )
    _add_table_arguments(parser)
    _add_row_arguments(parser)
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="number of folds (default: 5)")
    shares = parser.add_mutually_exclusive_group()
    shares.add_argument(
        "--test_ratio",
        "--test-ratio",
        type=float,
        default=0.15,
        metavar="SHARE",
        help="share of the files held out as test; the rest is cut into K folds (default: 0.15)",
    )
    shares.add_argument(
        "--ratio",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        help="shares that sum to 1; with VAL other than 1/K of what is not test, each fold is a hold-out drawn anew",
    )
    parser.add_argument("--seed", type=int, default=42, help="seed of the assignment (default: 42)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the split files (default: `splits` beside the folder of images, or in the table's data folder)",
    )
    parser.add_argument(
        "--on_corrupt",
        "--on-corrupt",
        choices=("stop", "skip"),
        help="images that cannot be decoded: stop with a list of them (default), or skip them",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other splits in the output folder")


def run(args: argparse.Namespace) -> int:
    """Split, print the counts and return 0."""
    from rich.console import Console

    from mltrain.cli.split_text import closing_lines, counts_table
    from mltrain.core.logging import console_log

    with console_log():
        result = _split(args)
    console = Console(highlight=False)
    table = counts_table(result.splits)
    # A table wider than the terminal is broken by the terminal; rich would cut the numbers.
    natural = console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum
    console.width = max(console.width, natural)
    console.print(table)
    for line in closing_lines(result):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    of_table = parser.add_argument_group("with --table, for the images that it names")
    for option, what in _TABLE_OPTIONS.items():
        spellings = dict.fromkeys((f"--{option}", f"--{option.replace('_', '-')}"))
        metavar, kind = ("DIR", Path) if option == "data_dir" else ("NAME", str)
        of_table.add_argument(*spellings, type=kind, metavar=metavar, help=what)


def _add_row_arguments(parser: argparse.ArgumentParser) -> None:
    of_rows = parser.add_argument_group("with --table, for its rows (CSV, TSV, JSON lines, Parquet)")
    strata = of_rows.add_mutually_exclusive_group()
    strata.add_argument("--rows", action="store_true", help="split the rows without stratification")
    kinds: dict[str, dict[str, Any]] = {
        "content": {"nargs": "+", "metavar": "NAME"},
        "bins": {"type": int, "metavar": "N"},
        "column_names": {"nargs": "+", "metavar": "NAME"},
        "quoting": {"choices": ("csv", "none")},
        "on_bad_rows": {"choices": ("stop", "skip")},
    }
    for option, what in _ROW_OPTIONS.items():
        spellings = dict.fromkeys((f"--{option}", f"--{option.replace('_', '-')}"))
        group = strata if option == "label" else of_rows
        group.add_argument(*spellings, help=what, **kinds.get(option, {"metavar": "NAME"}))


def _split(args: argparse.Namespace) -> SplitResult:
    shares = {name: getattr(args, name) for name in _SHARED}
    of_images = {name: getattr(args, name) for name in _TABLE_OPTIONS if getattr(args, name) is not None}
    of_rows = {name: getattr(args, name) for name in _ROW_OPTIONS if getattr(args, name) is not None}
    if args.on_corrupt is not None:
        of_images["on_corrupt"] = args.on_corrupt
    if args.rows or args.label is not None:
        if args.table is not None:
            from mltrain.workflows.split_rows import split_rows

            _refuse(of_images, "is for images", "Leave it out with --label or --rows.")
            return split_rows(args.table, **of_rows, **shares)
        _refuse({"rows": True} if args.rows else of_rows, "goes with --table", "Leave it out with --raw_data.")
    if args.table is not None:
        from mltrain.workflows.split_table import split_table

        _refuse(of_rows, "is for the rows of a table", "Add --label COLUMN, or --rows.")
        return split_table(args.table, **of_images, **shares)
    from mltrain.workflows.split import split_folder

    of_images.pop("on_corrupt", None)
    _refuse({**of_images, **of_rows}, "goes with --table", "Leave it out with --raw_data.")
    return split_folder(args.raw_data, on_corrupt=args.on_corrupt or "stop", **shares)


def _refuse(options: Mapping[str, Any], what: str, fix: str) -> None:
    from mltrain.core.errors import ConfigError

    if options:
        raise ConfigError(what, where=f"--{next(iter(options))}", fix=fix)
