"""Send what the trackers of earlier runs missed, from their run folders alone.

  mltrain sync runs/digits_fold_0
  mltrain sync runs/* --to mlflow --tracking_uri http://localhost:5000

What a tracker has already is not sent again. A run that is being trained is refused: it is sent as it goes.
"""

from __future__ import annotations

import argparse
import sys

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs and where to send them."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="TRACKER",
        help="mlflow, tensorboard, wandb or a plugin's, may be repeated; default: those that the run's configuration "
        "enables",
    )
    parser.add_argument(
        "--tracking_uri", "--tracking-uri", metavar="URI", help="MLflow store to send to instead of the run's own"
    )


def run(arguments: argparse.Namespace) -> int:
    """Send, one line a run and tracker; returns 2 if anything could not be sent."""
    from mltrain.workflows.sync import sync

    code = 0
    for result in sync(arguments.runs, to=arguments.to, tracking_uri=arguments.tracking_uri):
        head = f"{result.run}: {result.tracker}: " if result.tracker else ""
        if result.error is None:
            print(f"{head}{result.text}", flush=True)
        else:
            code = result.error.exit_code
            print(f"error: {head}{result.error}", file=sys.stderr)
    return code
