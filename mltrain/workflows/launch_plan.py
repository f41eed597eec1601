"""What a launch is asked for, checked before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mltrain.core.count_text import count_text
from mltrain.core.errors import ConfigError

__all__ = ["LaunchPlan", "plan_launch"]

_FLAGS = ("num_processes", "num_machines", "machine_rank", "main_process_port", "max_restarts")


@dataclass(frozen=True)
class LaunchPlan:
    """A launch of several processes, or of one with an Accelerate configuration.

    Attributes:
        num_processes: over all machines.
        num_machines, machine_rank: how many, and which one this is.
        main_process_ip: address of machine 0; None: there is one machine.
        main_process_port: at which the machines meet, or with one the ranks; 0: any free one.
        max_restarts: how often the ranks are started again after a failure.
        rendezvous_timeout_s: how long the machines wait for each other.
        environment: what an Accelerate configuration says to the ranks.
        words: what it says to the command.
    """

    num_processes: int
    num_machines: int = 1
    machine_rank: int = 0
    main_process_ip: str | None = None
    main_process_port: int = 0
    max_restarts: int = 0
    rendezvous_timeout_s: float = 600.0
    environment: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def local_processes(self) -> int:
        """Processes of this machine."""
        return self.num_processes // self.num_machines


def plan_launch(given: Mapping[str, Any]) -> LaunchPlan | None:
    """Return the checked plan of what was asked for by hand; None: one process, which needs no launcher.

    Args:
        given: the fields of `LaunchPlan`, and `accelerate_config`, the path of a file; None: not given. `num_processes`
            may be "auto": as many as there are GPUs.

    Raises:
        ConfigError: it cannot be done.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    file = asked.pop("accelerate_config", None)
    if not asked and file is None:
        return None
    environment: Mapping[str, str] = {}
    words: tuple[str, ...] = ()
    places = {name: f"--{name}" for name in _FLAGS}
    if file is not None:
        from mltrain.workflows.accelerate_file import read_accelerate_file

        found = read_accelerate_file(Path(file))
        places |= {name: place for name, place in found.places.items() if name not in asked}
        asked = {**found.asked, **asked}
        environment, words = found.environment, found.words
    asked["num_processes"] = _count(asked.get("num_processes", 1), int(asked.get("num_machines", 1)))
    plan = LaunchPlan(**asked, environment=environment, words=words)
    _check(plan, places)
    if plan.num_processes == 1 and file is None:
        if plan.max_restarts:
            raise ConfigError(
                "starts the processes of a launch again, and here is one without a launcher",
                where="--max_restarts",
                fix="Run the same command again with --resume auto, or use --num_processes 2 or more.",
            )
        return None
    return plan


def _count(wish: Any, machines: int) -> int:
    """Return the number of processes, of all machines."""
    if str(wish) == "auto":
        import torch

        return max(1, torch.accelerator.device_count()) * machines
    try:
        return int(wish)
    except ValueError:
        raise ConfigError(f"is {wish!r}", where="--num_processes", fix="Give a whole number, or auto.") from None


def _check(plan: LaunchPlan, places: Mapping[str, str]) -> None:
    """Raise ConfigError for the first thing that is wrong.

    Args:
        plan: of the launch.
        places: where each field was set: its flag, or the file of Accelerate's with line and key.
    """
    for name, least in (("num_machines", 1), ("num_processes", 1), ("machine_rank", 0), ("max_restarts", 0)):
        if getattr(plan, name) < least:
            raise ConfigError(f"is {getattr(plan, name)}", where=places[name], fix=f"Use {least} or more.")
    _check_machines(plan, places)
    if not 0 <= plan.main_process_port < 2**16:
        raise ConfigError(
            f"is {plan.main_process_port}", where=places["main_process_port"], fix="Use a number from 1 to 65535."
        )
    if not plan.rendezvous_timeout_s > 0:
        raise ConfigError(f"is {plan.rendezvous_timeout_s:g}", where="--rendezvous_timeout", fix="Give more seconds.")
    if (world := os.environ.get("WORLD_SIZE", "1")) not in ("", "1"):
        raise ConfigError(
            f"a launcher has started this process already, as one of {world}",
            where="--num_processes",
            fix="Give the number to one of the two launchers only.",
        )


def _check_machines(plan: LaunchPlan, places: Mapping[str, str]) -> None:
    """Raise ConfigError where several machines would not come together."""
    if plan.machine_rank and plan.num_machines == 1:
        raise ConfigError(
            f"is {plan.machine_rank}, but --num_machines is 1",
            where=places["machine_rank"],
            fix="Give --num_machines as well, the same number on all machines.",
        )
    if plan.machine_rank >= plan.num_machines:
        raise ConfigError(
            f"is {plan.machine_rank}, of {plan.num_machines} machines",
            where=places["machine_rank"],
            fix=f"Number them from 0 to {plan.num_machines - 1}.",
        )
    if plan.num_processes % plan.num_machines:
        processes = count_text(plan.num_processes, "process")
        raise ConfigError(
            f"{processes} cannot be shared evenly by {plan.num_machines} machines",
            where=places["num_processes"],
            fix="Give the number over all machines, a multiple of theirs.",
        )
    if plan.num_machines > 1 and (plan.main_process_ip is None or plan.main_process_port == 0):
        missing = "--main_process_ip" if plan.main_process_ip is None else "--main_process_port"
        raise ConfigError(
            f"is missing, but there are {plan.num_machines} machines",
            where=missing,
            fix="Give the address of machine 0 and a free port of it, the same on all machines.",
        )
