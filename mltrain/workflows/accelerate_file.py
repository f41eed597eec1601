"""A file of `accelerate config`: what it says to the launcher, and what to the ranks, in Accelerate's own words."""

from __future__ import annotations

import os
import warnings
from argparse import Namespace
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from mltrain.core.errors import ConfigError, one_line
from mltrain.core.registry import nearest

__all__ = ["AccelerateFile", "read_accelerate_file"]

_ASKED = ("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port")
_NOT_OURS = ("XLA", "MEGATRON_LM")


@dataclass(frozen=True)
class AccelerateFile:
    """What such a file holds.

    Attributes:
        asked: fields of a launch plan.
        environment: for the ranks.
        words: for the command that the ranks are.
    """

    asked: Mapping[str, Any]
    environment: Mapping[str, str]
    words: tuple[str, ...]


def read_accelerate_file(file: Path) -> AccelerateFile:
    """Read a file of `accelerate config`; Accelerate itself says what it means.

    Raises:
        ConfigError: it cannot be read, is none, or asks for what is launched otherwise.
    """
    if not file.is_file():
        raise ConfigError("is no file", where=f"--accelerate_config {file}", fix="Name a file of `accelerate config`.")
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        settings = load_config_from_file(str(file))
        kind = str(getattr(settings.distributed_type, "value", settings.distributed_type))
    except Exception as error:  # whatever Accelerate and its YAML reader meet in such a file
        raise _unusable(file, error) from None
    if kind in _NOT_OURS or not hasattr(settings, "num_processes"):
        raise ConfigError(
            f"{kind} is not launched by torch's processes",
            where=f"--accelerate_config {file}",
            fix="Use GPUs or CPUs: see accelerate_configs/.",
        )
    _check_fsdp(file, settings)
    asked = {name: getattr(settings, name) for name in _ASKED if getattr(settings, name) not in (None, -1)}
    use_cpu = bool(settings.use_cpu) or kind == "MULTI_CPU"
    environment = _environment(file)
    if use_cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    return AccelerateFile(asked, environment, ("training.device=cpu",) if use_cpu else ())


def _check_fsdp(file: Path, settings: Any) -> None:
    """Raise ConfigError for a part that Accelerate would pass over without a word."""
    from accelerate.commands.launch import launch_command_parser

    part = settings.fsdp_config or {}
    known = {action.dest for action in launch_command_parser()._actions if action.dest.startswith("fsdp_")}
    if not isinstance(part, dict):
        raise ConfigError(f"is {part!r}", where=f"{file}, fsdp_config", fix="Make it keys and values.")
    for key in part:
        if key not in known:
            close = nearest(str(key), sorted(known))
            fix = f"Did you mean {close}?" if close else f"Known: {', '.join(sorted(known))}."
            raise ConfigError("Accelerate knows no such key", where=f"{file}, fsdp_config.{key}", fix=fix)


def _environment(file: Path) -> dict[str, str]:
    """Return the variables by which Accelerate's launcher tells the ranks what the file says."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    words = ["--config_file", str(file), "--num_processes", "2", "--num_machines", "1", "mltrain"]
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            given: Namespace = launch_command_parser().parse_args(words)
            arguments, defaults, has_precision = _validate_launch_command(given)
            # How many and where is the launcher's matter; 0: any port is as good as another.
            arguments.num_machines, arguments.machine_rank, arguments.main_process_port = 1, 0, 0
            if arguments.use_deepspeed:
                fields = [*defaults.deepspeed_config, *(["mixed_precision"] if has_precision else [])]
                arguments.deepspeed_fields_from_accelerate_config = ",".join(fields)
                _, told = prepare_deepspeed_cmd_env(arguments)
            else:
                told = prepare_multi_gpu_env(arguments)
    except Exception as error:  # a ValueError of Accelerate's, or what its imports meet
        raise _unusable(file, error) from None
    told.pop("OMP_NUM_THREADS", None)  # the file cannot say it: it is Accelerate's own choice
    return {name: value for name, value in told.items() if os.environ.get(name) != value}


def _unusable(file: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"cannot be used ({type(error).__name__}: {one_line(error).rstrip('.')})",
        where=f"--accelerate_config {file}",
        fix="Write it with `accelerate config --config_file FILE`, or take one of accelerate_configs/.",
    )
