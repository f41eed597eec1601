"""`ml-split`: cut a folder of images, or those that a table names, into a test set and folds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mltrain.data.splits import Splits
    from mltrain.workflows.split import SplitResult

__all__ = ["HELP", "add_arguments", "run"]

HELP = "Cut a folder of images, one subfolder a class, or those of a CSV table, into a test set and folds."

_TABLE_OPTIONS = {
    "data_dir": "folder that the paths are relative to (default: the table's)",
    "path_column": "column of image files (default: path)",
    "label_column": "column of classes (default: label)",
    "group_column": "column of what must stay on one side, such as a patient",
}
_SHARED = ("folds", "test_ratio", "ratio", "seed", "output", "overwrite", "on_corrupt")
_MOST_ROWS = 60
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
        "--table", type=Path, metavar="FILE", help="CSV or TSV file with a column of paths and one of labels"
    )
    _add_table_arguments(parser)
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
        default="stop",
        help="images that cannot be decoded: stop with a list of them (default), or skip them",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other splits in the output folder")


def run(args: argparse.Namespace) -> int:
    """Split, print the counts and return 0."""
    from rich.console import Console

    from mltrain.core.logging import console_log

    with console_log():
        result = _split(args)
    console = Console(highlight=False)
    table = _table(result.splits)
    # A table wider than the terminal is broken by the terminal; rich would cut the numbers.
    natural = console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum
    console.width = max(console.width, natural)
    console.print(table)
    for line in _closing_lines(result):
        console.print(line, markup=False, soft_wrap=True)
    return 0


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    of_table = parser.add_argument_group("with --table")
    for option, what in _TABLE_OPTIONS.items():
        spellings = dict.fromkeys((f"--{option}", f"--{option.replace('_', '-')}"))
        metavar, kind = ("DIR", Path) if option == "data_dir" else ("NAME", str)
        of_table.add_argument(*spellings, type=kind, metavar=metavar, help=what)


def _split(args: argparse.Namespace) -> SplitResult:
    from mltrain.core.errors import ConfigError

    shares = {name: getattr(args, name) for name in _SHARED}
    of_table = {name: getattr(args, name) for name in _TABLE_OPTIONS if getattr(args, name) is not None}
    if args.table is not None:
        from mltrain.workflows.split_table import split_table

        return split_table(args.table, **of_table, **shares)
    from mltrain.workflows.split import split_folder

    if of_table:
        raise ConfigError("goes with --table", where=f"--{next(iter(of_table))}", fix="Leave it out with --raw_data.")
    return split_folder(args.raw_data, **shares)


def _table(splits: Splits) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from mltrain.data.image_files import printable

    counts = splits.counts()
    rows = {printable(name): row for name, row in counts.items()}
    total = {name: sum(row[name] for row in counts.values()) for name in next(iter(counts.values()))}
    table = Table(box=SIMPLE, show_edge=False, show_footer=True, caption="folds: train / val", caption_justify="left")
    table.add_column("class", footer="all", no_wrap=True)
    columns = {"files": ("test", "fold_0_train", "fold_0_val"), "test": ("test",)}
    for title, names in columns.items():
        table.add_column(title, footer=str(sum(total[name] for name in names)), justify="right", no_wrap=True)
    folds = range(len(splits.validation))
    for k in folds:
        table.add_column(f"fold {k}", footer=_pair(total, k), justify="right", no_wrap=True)
    for name, row in list(rows.items())[:_MOST_ROWS]:
        sums = [str(sum(row[part] for part in parts)) for parts in columns.values()]
        table.add_row(Text(name), *sums, *(_pair(row, k) for k in folds))
    if len(rows) > _MOST_ROWS:
        table.add_row(f"{len(rows) - _MOST_ROWS} more classes: see splits.json")
    return table


def _pair(row: dict[str, int], fold: int) -> str:
    return f"{row[f'fold_{fold}_train']} / {row[f'fold_{fold}_val']}"


def _closing_lines(result: SplitResult) -> list[str]:
    from mltrain.data.image_files import printable

    splits = result.splits
    folds, rest = len(splits.validation), len(splits.files) - len(splits.test)
    if splits.method == "k-fold":
        method = f"{folds}-fold: each of the {rest} files that are not test is in exactly one validation fold."
    else:
        method = (
            f"Repeated hold-out, {folds} times: validation is {splits.validation_ratio:g} of all files, drawn anew for "
            f"each fold, so a file may be in several validation folds or in none. For k-fold use --test_ratio "
            f"{splits.test_ratio:g} instead of --ratio."
        )
    files = f"test.txt, fold_0..{folds - 1}_{{train,val}}.txt and splits.json"
    state = "Written" if result.outcome == "written" else "Unchanged; the same splits are there already"
    return [method, *result.notices, f"{state}: {printable(str(result.folder))} ({files})"]
