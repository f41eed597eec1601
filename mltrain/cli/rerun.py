"""Train a run again from its folder, and compare: the same bits, or the first value that differs.

  mltrain rerun runs/digits_fold_0

First it says what is no longer as it was: code, packages, hardware. Data that differs is refused. The new run lies
beside the old one. Exit code 0: the same bits; 1: something differs.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run and the name of the new one."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the run folder")
    parser.add_argument(
        "--run_name", "--run-name", metavar="NAME", help="name of the new run (default: <name>_rerun, numbered)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Train and compare; returns 0 for the same bits, 1 for others, 128 + n when signal n interrupted the new run."""
    from mltrain.cli.train import leave_process_group
    from mltrain.core.logging import log, open_console_log

    is_main = os.environ.get("RANK", "0") == "0"
    if is_main:
        open_console_log()

    from mltrain.workflows.rerun import rerun
    from mltrain.workflows.signals import command_signals

    try:
        with command_signals():
            result = rerun(arguments.run, arguments.run_name)
    finally:
        leave_process_group()
    if result.comparison is None:
        log.warning("The new run was interrupted; nothing is compared.")
        return 128 + (result.signal or signal.SIGTERM)
    if is_main:
        if result.comparison.unmatched:
            log.info("Logged by one of the runs only: %s.", ", ".join(result.comparison.unmatched))
        print(result.comparison.verdict)
    return 0 if result.comparison.same else 1
