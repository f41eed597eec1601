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
from mltrain.workflows.accelerate_keys import EXAMPLES, check_keys

__all__ = ["AccelerateFile", "read_accelerate_file"]

_ASKED = ("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port")


@dataclass(frozen=True)
class AccelerateFile:
    """What such a file holds.

    Attributes:
        asked: fields of a launch plan.
        places: where the file says each of them.
        environment: for the ranks.
        words: for the command that the ranks are.
    """

    asked: Mapping[str, Any]
    places: Mapping[str, str]
    environment: Mapping[str, str]
    words: tuple[str, ...]


def read_accelerate_file(file: Path) -> AccelerateFile:
    """Read a file of `accelerate config`; Accelerate itself says what it means.

    Raises:
        ConfigError: it cannot be read, is none, or asks for what is launched otherwise.
    """
    if not file.is_file():
        raise ConfigError("is no file", where=f"--accelerate_config {file}", fix="Name a file of `accelerate config`.")
    places = check_keys(file)
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        settings = load_config_from_file(str(file))
        kind = str(getattr(settings.distributed_type, "value", settings.distributed_type))
    except Exception as error:  # whatever Accelerate and its YAML reader meet in such a file
        raise _unusable(file, error) from None
    asked = {name: getattr(settings, name) for name in _ASKED if getattr(settings, name) not in (None, -1)}
    use_cpu = bool(settings.use_cpu) or kind == "MULTI_CPU"
    environment = _environment(file)
    if use_cpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    told = {name: places.of((name,)) for name in asked}
    return AccelerateFile(asked, told, environment, ("training.device=cpu",) if use_cpu else ())


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
    # A ValueError's text is Accelerate's own; that of others means nothing without their names.
    name = "" if type(error) is ValueError else f"{type(error).__name__}: "
    what = f"Accelerate cannot use it ({name}{one_line(error).rstrip('.')})"
    return ConfigError(what, where=f"--accelerate_config {file}", fix=EXAMPLES)
