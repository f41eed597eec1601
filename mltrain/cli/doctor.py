"""Say what this machine can do for training, what is wrong with it, and what to set for it.

  mltrain doctor
  mltrain doctor --config configs/x.yaml --num_processes 2 training.trainer_type=accelerate
  mltrain doctor --json

Prints versions, devices, precisions, cores, memory, shared memory, disks and limits, then what to set and why, with the
command to type. With --config also what that configuration would use here, and whatever of it cannot be had, by the
checks that training makes. Nothing is trained or written.

Exit code 0, warnings or not; 2 where nothing can be trained before something is mended: torch or another required
package is missing, run.dir cannot be written to or is full, there are too few GPUs for the processes asked for, or a
check refuses the configuration.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from mltrain.cli.flags import add_flag

if TYPE_CHECKING:
    from mltrain.workflows.doctor import Diagnosis

__all__ = ["add_arguments", "run"]

_NAME_WIDTH = 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the form, the configuration and the number of processes."""
    from mltrain.cli.train import add_keys

    parser.add_argument("--json", action="store_true", help="print facts and recommendations as one JSON object")
    parser.add_argument("--config", metavar="FILE", help="YAML file that is to be trained here")
    add_flag(
        parser, "num_processes", type=int, metavar="N",
        help="training processes on this machine (default: as many as make sense; of a configuration, 1)",
    )  # fmt: skip
    add_keys(parser, without=("run_name",))


def run(arguments: argparse.Namespace) -> int:
    """Print the answer; returns 0, or 2 where nothing can be trained."""
    from mltrain.cli.train import given_keys
    from mltrain.core.logging import console_log
    from mltrain.workflows.doctor import diagnose

    with console_log():
        found = diagnose(
            arguments.config, given_keys(arguments), num_processes=arguments.num_processes, by_hand="command line"
        )
    if arguments.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _print_text(found)
    return 0 if found.can_train else 2


def _print_text(found: Diagnosis) -> None:
    from mltrain.cli.doctor_text import sections

    for title, rows in sections(found):
        print(title)
        width = max(_NAME_WIDTH, *(len(name) for name, _ in rows))
        for name, text in rows:
            for place, line in enumerate(text.splitlines() or [""]):
                print(f"  {'' if place else name:<{width}}  {line}".rstrip())
        print()
    print(f"To train so\n  {found.command}")
