"""Write a small data set to try things with, and say what to run next."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the name and the output folder."""
    from mltrain.workflows.make_data import DATASETS

    parser.add_argument("name", help="; ".join(f"{name}: {maker.what}" for name, maker in DATASETS.items()))
    parser.add_argument("--output", metavar="DIR", help="data folder; default data/NAME")


def run(arguments: argparse.Namespace) -> int:
    """Write the data set and say what to do next."""
    from mltrain.workflows.make_data import make_data, next_command

    output = Path(arguments.output or f"data/{arguments.name}")
    written = make_data(arguments.name, output)
    print(f"{written}. Next: {next_command(arguments.name, output)}")
    return 0
