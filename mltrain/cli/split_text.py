"""What `ml-split` prints: a table of counts, how the data was cut, and where the files lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from mltrain.data.splits import Splits
    from mltrain.workflows.split import SplitResult

__all__ = ["closing_lines", "counts_table"]

_MOST_ROWS = 60


def counts_table(splits: Splits) -> Table:
    """Return a table of the classes and their numbers in each list."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from mltrain.data.image_files import printable

    counts = splits.counts()
    rows = {printable(name): row for name, row in counts.items()}
    total = {name: sum(row[name] for row in counts.values()) for name in next(iter(counts.values()))}
    table = Table(box=SIMPLE, show_edge=False, show_footer=True, caption="folds: train / val", caption_justify="left")
    table.add_column("class", footer="all", no_wrap=True)
    columns = {_unit(splits): ("test", "fold_0_train", "fold_0_val"), "test": ("test",)}
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


def closing_lines(result: SplitResult) -> list[str]:
    """Return what is to be known of the splits, a line each."""
    from mltrain.data.image_files import printable

    splits = result.splits
    unit = _unit(splits)
    folds, rest = len(splits.validation), len(splits.files) - len(splits.test)
    if splits.method == "k-fold":
        method = f"{folds}-fold: each of the {rest} {unit} that are not test is in exactly one validation fold."
    else:
        method = (
            f"Repeated hold-out, {folds} times: validation is {splits.validation_ratio:g} of all {unit}, drawn anew "
            f"for each fold, so a {unit[:-1]} may be in several validation folds or in none. For k-fold use "
            f"--test_ratio {splits.test_ratio:g} instead of --ratio."
        )
    files = f"test.txt, fold_0..{folds - 1}_{{train,val}}.txt and splits.json"
    state = "Written" if result.outcome == "written" else "Unchanged; the same splits are there already"
    return [method, *result.notices, f"{state}: {printable(str(result.folder))} ({files})"]


def _unit(splits: Splits) -> str:
    return "rows" if splits.table.get("rows") else "files"
