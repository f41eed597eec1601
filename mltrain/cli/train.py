"""Train on one fold, from a YAML file.

Command line beats file beats default. Every key can be set as section.key=value:

  ml-train --config configs/x.yaml --fold 0 --num_epochs 50 optimizer.weight_decay=0.1

A run leaves a folder below runs/: config, log, metrics, checkpoints, reports, model.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

__all__ = ["add_arguments", "run"]

# flag -> (key, type, help)
_FLAGS: dict[str, tuple[str, type, str]] = {
    "fold": ("data.fold", int, "fold to train on"),
    "trainer": ("training.trainer_type", str, "standard, mixed_precision or accelerate"),
    "num_epochs": ("training.num_epochs", int, "passes over the training split"),
    "batch_size": ("training.batch_size", int, "examples of a microbatch, on each process"),
    "lr": ("optimizer.lr", float, "learning rate"),
    "seed": ("seed", int, "seed of weights, sample order and augmentation"),
    "num_workers": ("data.num_workers", str, "loader processes: a number, or auto"),
    "device": ("training.device", str, "auto, cpu, cuda, cuda:1, mps"),
    "run_name": ("run.name", str, "name of the run folder; must be new"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of the common keys, and the free overrides."""
    parser.add_argument("--config", metavar="FILE", help="YAML file; may be left out with --resume PATH")
    parser.add_argument(
        "--resume", metavar="WHERE", help="a run folder, one of its checkpoints, or auto: the newest unfinished run"
    )
    for flag, (_, kind, text) in _FLAGS.items():
        names = dict.fromkeys([f"--{flag}", f"--{flag.replace('_', '-')}"])
        parser.add_argument(*names, dest=flag, type=kind, metavar=flag.upper(), help=text)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="any key of the configuration")


def run(arguments: argparse.Namespace) -> int:
    """Train; returns 0, or 128 + n when signal n interrupted the run."""
    from mltrain.config.load import parse_overrides
    from mltrain.core.logging import open_console_log

    overrides: dict[str, Any] = {}
    for flag, (key, _, _) in _FLAGS.items():
        value = getattr(arguments, flag)
        if value is not None:
            overrides[key] = int(value) if flag == "num_workers" and value.lstrip("-").isdigit() else value
    overrides |= parse_overrides(arguments.overrides)
    if os.environ.get("RANK", "0") == "0":
        open_console_log()

    from mltrain.workflows.train import train

    try:
        result = train(arguments.config, overrides, resume=arguments.resume)
    finally:
        _leave_process_group()
    return 0 if result.signal is None else 128 + result.signal


def _leave_process_group() -> None:
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
