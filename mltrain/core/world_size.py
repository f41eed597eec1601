"""Whether as many processes run as were asked for: a launcher's misunderstanding must not train in one of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from mltrain.core.errors import HardwareError

__all__ = ["ASKED", "check_world_size"]

ASKED = "MLTRAIN_NUM_PROCESSES"
"""The variable in which our own launcher says how many processes it was asked for."""

_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
# How the launcher is called: by its command, by its other command, as a module, which Python shows as its file.
_LAUNCH = (["accelerate", "launch"], ["accelerate-launch"], ["accelerate.commands.launch"], ["launch.py"])
_PROGRAM_WORDS = 4  # of a command line: python, options, program, verb
_GENERATIONS = 4


def check_world_size(count: int) -> None:
    """Raise HardwareError where a launcher was asked for another number of processes than there are.

    Args:
        count: of the processes that run.
    """
    asked = os.environ.get(ASKED)
    if asked is not None and asked != str(count):
        raise HardwareError(
            f"{asked} processes were asked for, but {count} run",
            where="WORLD_SIZE",
            fix=f"Start the run with ml-train --num_processes, and leave WORLD_SIZE and {ASKED} alone.",
        )
    # Without a GPU, or with --cpu, `accelerate launch` starts one process whatever it was asked for. It leaves an
    # address to meet at, where more were asked for, but no number.
    names = ("ACCELERATE_DYNAMO_MODE", "MASTER_ADDR")
    if count == 1 and all(name in os.environ for name in names) and not any(name in os.environ for name in _MPI):
        wanted = _accelerate_wants()
        if wanted is not None and wanted > 1:
            raise HardwareError(
                f"accelerate launch was asked for {wanted} processes, but it has started one",
                where="--num_processes",
                fix=f"Use ml-train --num_processes {wanted}, or accelerate launch --multi_gpu, on a CPU too.",
            )


@functools.cache
def _accelerate_wants() -> int | None:
    """Return how many processes the `accelerate launch` above this process was asked for; None: there is none."""
    import psutil

    try:
        ancestors = psutil.Process().parents()[:_GENERATIONS]
    except psutil.Error:
        return None
    for process in ancestors:
        try:
            words = _launch_words(process.cmdline())
        except psutil.Error:
            continue
        if words is not None:
            return _wanted(words)
    return None


def _launch_words(command: Sequence[str]) -> list[str] | None:
    """Return the words after `accelerate launch` in a command line; None: it is another command."""
    names = [word.rpartition("/")[2] for word in command[:_PROGRAM_WORDS]]
    for launch in _LAUNCH:
        for place in range(len(names)):
            if names[place : place + len(launch)] == launch:
                return list(command[place + len(launch) :])
    return None


def _wanted(words: Sequence[str]) -> int | None:
    """Return the number of processes that Accelerate's own parser, and its configuration file, make of the words."""
    from pathlib import Path

    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    try:
        arguments = launch_command_parser().parse_args(list(words))
        if arguments.num_processes is not None:
            return int(arguments.num_processes)
        if arguments.config_file is not None or (Path(default_config_file).is_file() and not arguments.cpu):
            return int(load_config_from_file(arguments.config_file).num_processes)
    except (Exception, SystemExit):  # the launcher itself has understood them; we need not
        return None
    return None
