"""The flags by which `ml-train` launches itself as several processes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from mltrain.cli.flags import add_flag

if TYPE_CHECKING:
    from mltrain.workflows.launch_plan import LaunchPlan

__all__ = ["add_launch_flags", "launch_plan", "words_of"]

# flag -> (type, metavar, help)
_FLAGS: dict[str, tuple[Callable[[str], object], str, str]] = {
    "num_processes": (str, "N", "processes, over all machines: a number, or auto: one a GPU (default: 1)"),
    "num_machines": (int, "N", "machines; the same command runs on each (default: 1)"),
    "machine_rank": (int, "K", "which of the machines this is, from 0 (default: 0)"),
    "main_process_ip": (str, "ADDRESS", "address of machine 0; needed for several machines"),
    "main_process_port": (int, "PORT", "free port of machine 0; needed for several machines"),
    "max_restarts": (int, "N", "start the processes again so often when one has died or hangs (default: 0)"),
    "rendezvous_timeout": (float, "S", "seconds in which the machines must find each other (default: 600)"),
    "accelerate_config": (str, "FILE", "a file of accelerate config: FSDP, DeepSpeed, precision; flags beat it"),
}


def add_launch_flags(parser: argparse.ArgumentParser) -> None:
    """Declare how many processes train, and where."""
    for flag, (kind, metavar, text) in _FLAGS.items():
        add_flag(parser, flag, type=kind, metavar=metavar, help=text)


def launch_plan(arguments: argparse.Namespace) -> LaunchPlan | None:
    """Return what is to be launched; None: this process trains by itself, alone or as one that was launched."""
    from mltrain.workflows.launch_plan import plan_launch
    from mltrain.workflows.launch_state import is_rank

    if is_rank():
        return None
    given = {flag: getattr(arguments, flag) for flag in _FLAGS}
    given["rendezvous_timeout_s"] = given.pop("rendezvous_timeout")
    return plan_launch(given)


def words_of(arguments: argparse.Namespace, declare: Callable[[argparse.ArgumentParser], None]) -> list[str]:
    """Return the words that parsed to these arguments.

    Args:
        arguments: of a command.
        declare: what declared them.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--debug", action="store_true")
    declare(parser)
    words: list[str] = []
    places: list[str] = []
    for action in parser._actions:
        value = getattr(arguments, action.dest)
        if not action.option_strings:
            places += value
        elif value is True:
            words.append(action.option_strings[0])
        elif value != action.default:
            words.append(f"{action.option_strings[0]}={value}")
    return [*words, *places]
