"""Write a small data set to try things with: digits (1,797 real handwritten digits as PNG class folders)."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the name and the output folder."""
    parser.add_argument("name", help="digits")
    parser.add_argument("--output", metavar="DIR", help="data folder; default data/NAME")


def run(arguments: argparse.Namespace) -> int:
    """Write the data set and say what to do next."""
    from mltrain.workflows.make_data import make_data

    output = Path(arguments.output or f"data/{arguments.name}")
    count = make_data(arguments.name, output)
    print(f"{count} files in {output}/raw. Next: ml-split --raw_data {shlex.quote(f'{output}/raw')} --folds 5")
    return 0
