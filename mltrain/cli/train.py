"""Train on one fold, from a YAML file.

Command line beats file beats default. Every key can be set as section.key=value:

  ml-train --config configs/x.yaml --fold 0 --num_epochs 50 optimizer.weight_decay=0.1

With --num_processes it launches itself as several:

  ml-train --config configs/x.yaml --trainer accelerate --num_processes 2 --max_restarts 3

A run leaves a folder below runs/: config, log, metrics, checkpoints, reports, model.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from mltrain.cli.early_signals import leave_on_signals
from mltrain.cli.flags import add_flag
from mltrain.cli.launch_flags import add_launch_flags, launch_plan, words_of
from mltrain.cli.sign_of_life import sign_of_life

if TYPE_CHECKING:
    from mltrain.workflows.launch_plan import LaunchPlan

__all__ = ["add_arguments", "add_keys", "given_keys", "leave_process_group", "run"]

# flag -> (key, help)
_FLAGS = {
    "fold": ("data.fold", "fold to train on"),
    "trainer": ("training.trainer_type", "standard, mixed_precision, accelerate or dp"),
    "num_epochs": ("training.num_epochs", "passes over the training split"),
    "batch_size": ("training.batch_size", "examples of a microbatch, on each process"),
    "lr": ("optimizer.lr", "learning rate"),
    "seed": ("seed", "seed of weights, sample order and augmentation"),
    "num_workers": ("data.num_workers", "loader processes: a number, or auto"),
    "device": ("training.device", "auto, cpu, cuda, cuda:1, mps"),
    "run_name": ("run.name", "name of the run folder; must be new"),
}
_TEXTS = ("trainer", "device", "run_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the common keys, and the free overrides."""
    parser.add_argument("--config", metavar="FILE", help="YAML file; may be left out with --resume PATH")
    parser.add_argument(
        "--resume", metavar="WHERE", help="a run folder, one of its checkpoints, or auto: the newest unfinished run"
    )
    add_launch_flags(parser)
    add_keys(parser)


def add_keys(parser: argparse.ArgumentParser, *, without: Collection[str] = ()) -> None:
    """Declare the flags of the common keys, but those in `without`, and `section.key=value` for every key."""
    for flag, (_, text) in _FLAGS.items():
        if flag in without:
            continue
        add_flag(parser, flag, metavar=flag.upper(), help=text)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="any key of the configuration")


def run(arguments: argparse.Namespace) -> int:
    """Train; returns 0, or 128 + n when signal n interrupted the run.

    A run that is interrupted without a signal, as by `training.max_time`, ends as after SIGTERM: a queue that starts
    interrupted jobs again need not know the reason.
    """
    started = time.monotonic()
    with leave_on_signals():
        _refuse_no_configuration(arguments)
        plan = launch_plan(arguments)
        return _train(arguments, started) if plan is None else _launch(plan, arguments, started)


def _refuse_no_configuration(arguments: argparse.Namespace) -> None:
    from mltrain.core.errors import ConfigError

    if arguments.config is None and arguments.resume in (None, "auto"):
        raise ConfigError("no configuration", where="--config", fix="Name a YAML file, such as one of configs/.")


def _launch(plan: LaunchPlan, arguments: argparse.Namespace, started: float) -> int:
    """Let others train, and say how it ended where they have not."""
    from mltrain.core.logging import open_console_log
    from mltrain.workflows.launch import launch, rank_command

    given = given_keys(arguments)  # read here too: a mistake needs no process to be found
    open_console_log()
    words = words_of(arguments, add_arguments)
    words += [word for word in plan.words if word.partition("=")[0] not in given]
    with sign_of_life(arguments, plan.num_processes):
        end = launch(plan, rank_command(["train", *words]), started=started, debug=arguments.debug)
    if end.line is not None:
        print(f"error: {end.line}", file=sys.stderr)
    return end.code


def _train(arguments: argparse.Namespace, started: float) -> int:
    from mltrain.core.hardware import process_count
    from mltrain.core.logging import open_console_log
    from mltrain.workflows.launch_rank import as_rank, continued, launched_at
    from mltrain.workflows.launch_state import is_rank

    processes = process_count()  # another number than was asked for is an error before any time is spent
    with as_rank():
        overrides, resume = continued(given_keys(arguments), arguments.resume)
        if os.environ.get("RANK", "0") == "0":
            open_console_log()

        # A launcher of ours says it itself, and only the first process has a log to say it in.
        with contextlib.nullcontext() if is_rank() else sign_of_life(arguments, processes):
            from mltrain.workflows.signals import command_signals
            from mltrain.workflows.train import execute

        try:
            with command_signals():
                result = execute(
                    arguments.config,
                    overrides,
                    resume=resume,
                    by_hand="command line",
                    started=launched_at(otherwise=started),
                )
        finally:
            leave_process_group()
    return 128 + (result.signal or signal.SIGTERM) if result.status == "interrupted" else 0


def given_keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return key -> value of the flags and of the free overrides, which beat the flags."""
    from mltrain.config.load import parse_overrides

    given = {flag: value for flag in _FLAGS if (value := getattr(arguments, flag, None)) is not None}
    texts = {_FLAGS[flag][0]: value for flag, value in given.items() if flag in _TEXTS}
    values = [f"{_FLAGS[flag][0]}={value}" for flag, value in given.items() if flag not in _TEXTS]
    return texts | parse_overrides([*values, *arguments.overrides])


def leave_process_group() -> None:
    """End the group of a launcher's processes, where there is one."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
