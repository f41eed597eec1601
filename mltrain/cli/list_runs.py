"""Show runs as a table: status, epochs, the best value, the test result, age.

mltrain list                               the runs in runs/, the newest first
mltrain list runs --sort test --limit 10   the ten best
mltrain list --status killed               those that --resume continues
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mltrain.workflows.list_runs import RunRow, Score

__all__ = ["add_arguments", "run"]

_UNLIMITED = 1_000_000
_SECONDS = {"d": 86_400, "h": 3_600, "min": 60}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder, the order and the form."""
    from mltrain.workflows.list_runs import SORTS, STATUSES

    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (default: runs)"
    )
    parser.add_argument("--sort", choices=SORTS, default="age", help="newest first, or best first (default: age)")
    parser.add_argument("--status", choices=STATUSES, help="only runs of this status")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the runs and return 0."""
    from mltrain.core.errors import ConfigError
    from mltrain.data.image_files import printable
    from mltrain.workflows.list_runs import list_runs

    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"is {arguments.limit}", where="--limit", fix="Use 1 or more.")
    rows = list_runs(arguments.folder, sort=arguments.sort, status=arguments.status, limit=arguments.limit)
    if arguments.json:
        print(json.dumps([_plain(row) for row in rows], indent=2))
    elif rows:
        _print_table(rows)
    else:
        which = f"No {arguments.status} runs" if arguments.status else "No runs"
        print(f"{which} in {printable(str(arguments.folder))}.")
    return 0


def _plain(row: RunRow) -> dict[str, Any]:
    def score(value: Score | None) -> dict[str, Any] | None:
        return {"metric": value.metric, "value": value.value, "epoch": value.epoch} if value is not None else None

    return {
        "name": row.path.name,
        "path": str(row.path),
        "status": row.status,
        "reason": row.reason,
        "trainer": row.trainer,
        "epochs": row.epochs,
        "num_epochs": row.num_epochs,
        "best": score(row.best),
        "test": score(row.test),
        "started": row.started,
        "privacy": row.privacy,
    }


def _print_table(rows: Sequence[RunRow]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    table = _table(rows)
    # A table wider than the terminal is broken by the terminal; rich would cut names and numbers.
    natural = console.measure(table, options=console.options.update(width=_UNLIMITED)).maximum
    console.width = max(console.width, natural)
    console.print(table)


def _table(rows: Sequence[RunRow]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    from mltrain.data.image_files import printable

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    private = any(row.privacy is not None for row in rows)
    titles = ("run", "status", "trainer", "epochs", "best", "test", *(("epsilon",) if private else ()), "age")
    for title in titles:
        table.add_column(title, no_wrap=True, justify="right" if title in ("epochs", "age") else "left")
    now = time.time()
    for row in rows:
        # A damaged folder has nothing to show but what is wrong with it.
        best = row.reason if row.status == "damaged" else _score(row.best)
        epochs = "" if row.epochs is None else f"{row.epochs}/{row.num_epochs}"
        age = "" if row.started is None else _age(now - row.started)
        cells = (
            printable(row.path.name),
            row.status,
            row.trainer or "",
            epochs,
            printable(best),
            _score(row.test),
            *((_epsilon(row),) if private else ()),
            age,
        )
        table.add_row(*map(Text, cells))
    return table


def _score(score: Score | None) -> str:
    if score is None:
        return ""
    value = f"{score.metric} {score.value:.4f}"
    return value if score.epoch is None else f"{value} @{score.epoch}"


def _epsilon(row: RunRow) -> str:
    """Return the privacy that a run claims, and its delta."""
    if row.privacy is None:
        return ""
    from mltrain.privacy.rounding import shown_up

    if row.privacy["void"] or row.privacy["epsilon"] is None:
        return "void"
    at_most = "<= " if row.privacy["at_most"] else ""
    return f"{at_most}{shown_up(row.privacy['epsilon'])} (delta {shown_up(row.privacy['delta'])})"


def _age(seconds: float) -> str:
    """Return a time span in its largest whole unit."""
    for unit, length in _SECONDS.items():
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
