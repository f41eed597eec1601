"""Prove for a configuration that a run which is killed anywhere continues to the same bits.

  mltrain verify-resume --config configs/x.yaml
  mltrain verify-resume --config configs/x.yaml --kills 10 --num_epochs 2 data.num_workers=2
  mltrain verify-resume --config configs/x.yaml --trainer accelerate --num_processes 2

Trains straight through, then again with SIGKILLs at random moments, in mid-save too, and resumes after each; the
moments follow from --seed. Compares the model's digest and every logged value. Exit code 0: the same bits; 1: something
differs.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mltrain.workflows.killed_run import Kill

__all__ = ["add_arguments", "run"]

_COLUMNS = ("kill", "doing", "seconds", "step", "resumed from", "steps repeated")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, the number of kills and where the runs lie."""
    from mltrain.cli.train import add_keys

    parser.add_argument("--config", metavar="FILE", required=True, help="YAML file")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="how many (default: 5)")
    parser.add_argument(
        "--num_processes", "--num-processes", type=int, default=1, metavar="N",
        help="processes of each run, as for ml-train (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the runs lie meanwhile (default: the configuration's run.dir)"
    )
    add_keys(parser, without=("run_name",))


def run(arguments: argparse.Namespace) -> int:
    """Verify, print a line a kill and the verdict; returns 0 for the same bits, 1 for others."""
    from mltrain.cli.train import given_keys
    from mltrain.core.logging import open_console_log

    open_console_log()
    # What was started must end with this command, and its folder go.
    signal.signal(signal.SIGTERM, _leave)

    from mltrain.workflows.verify_resume import verify_resume

    found = verify_resume(
        arguments.config,
        given_keys(arguments),
        kills=arguments.kills,
        num_processes=arguments.num_processes,
        output=arguments.output,
        by_hand="command line",
    )
    if found.kills:
        _print_table(found.kills)
    print(f"{'PASS' if found.same else 'FAIL'}: {found.verdict}")
    if found.folder is not None:
        print(f"The runs are kept in {found.folder}.")
    return 0 if found.same else 1


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _print_table(kills: tuple[Kill, ...]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for title in _COLUMNS:
        table.add_column(title, no_wrap=True, justify="left" if title in ("doing", "resumed from") else "right")
    for number, kill in enumerate(kills, start=1):
        start = kill.resumed_from or "the beginning"
        table.add_row(str(number), kill.doing, f"{kill.seconds:.2f}", str(kill.step), start, str(kill.repeated))
    Console(highlight=False).print(table)
