"""Attack the private step of a configuration with canaries in one run, and compare what leaks with what is claimed.

  mltrain audit-privacy --config configs/x.yaml
  mltrain audit-privacy --config configs/x.yaml training.dp.target_epsilon=3 --canaries 4000 --output audit.json

Takes noise, clipping, sample rate and steps from the configuration, and the classes that train; the data is canaries.
Exit code 0: no claim is refuted; 1: one is.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mltrain.privacy.audit import AuditResult

__all__ = ["add_arguments", "run"]

_COLUMNS = ("attacked", "claimed", "standard", "f-DP", "could be", "right guesses")
_LEGEND = (
    "All are epsilons. claimed: for the steps attacked, by the accountant, rounded up",
    "standard: the largest refuted for any mechanism; f-DP: for Gaussian steps",
    "could be: the larger of these two, had every guess been right",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration, the number of canaries and where the report goes."""
    from mltrain.cli.train import add_keys

    parser.add_argument("--config", metavar="FILE", required=True, help="YAML file")
    parser.add_argument("--canaries", type=int, default=1000, metavar="N", help="how many (default: 1000)")
    parser.add_argument(
        "--num_processes", "--num-processes", type=int, default=1, metavar="N",
        help="processes of the training (default: 1)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report here, as JSON")
    add_keys(parser, without=("run_name",))


def run(arguments: argparse.Namespace) -> int:
    """Attack, print a line an attack and the verdict; returns 0 where every claim stands, else 1."""
    from mltrain.cli.train import given_keys
    from mltrain.core.errors import ConfigError
    from mltrain.core.files import write_json
    from mltrain.core.logging import open_console_log

    open_console_log()
    if arguments.output is not None and (arguments.output.is_dir() or not arguments.output.absolute().parent.is_dir()):
        raise ConfigError("is no file in a folder that exists", where="--output", fix="Name another file.")

    from mltrain.workflows.audit_privacy import audit_privacy

    found = audit_privacy(
        arguments.config,
        given_keys(arguments),
        canaries=arguments.canaries,
        num_processes=arguments.num_processes,
        by_hand="command line",
    )
    if arguments.output is not None:
        write_json(arguments.output, found.as_json())
    print(found.claim)
    _print_table(found.results)
    print("\n".join(_LEGEND))
    print(f"{'PASS' if found.passed else 'FAIL'}: {found.verdict}")
    return 0 if found.passed else 1


def _print_table(results: Mapping[str, AuditResult]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from mltrain.privacy.rounding import shown_up

    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    for title in _COLUMNS:
        is_name = title == "attacked"
        table.add_column(title, no_wrap=not is_name, justify="left" if is_name else "right")
    for name, result in results.items():
        values = (result.standard_bound, result.f_dp_bound, result.reachable)
        found = (f"{value:.2f}" for value in values)
        table.add_row(name, shown_up(result.claimed_epsilon), *found, f"{result.correct} of {result.guesses}")
    Console(highlight=False).print(table)
