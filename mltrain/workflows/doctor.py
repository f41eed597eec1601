"""What this machine can do, what is wrong with it, and what to set; of a configuration, whether it can be trained."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltrain.config.schema import RunSection
from mltrain.core import host_facts
from mltrain.core.cache_folder import cache_folder
from mltrain.core.disk_facts import disk
from mltrain.core.errors import ConfigError
from mltrain.core.machine import Disk, Machine
from mltrain.core.package_versions import package_versions
from mltrain.core.shared_memory import shared_memory
from mltrain.core.torch_facts import torch_facts
from mltrain.workflows.machine_advice import DEFAULTS, Advice, advise, command_line, sensible_processes
from mltrain.workflows.machine_flaws import Flaw, find_flaws

if TYPE_CHECKING:
    from mltrain.config.schema import Config
    from mltrain.workflows.doctor_config import ConfigReport
    from mltrain.workflows.request import ConfigLike

__all__ = ["Diagnosis", "diagnose", "examine_machine", "judge"]


@dataclass(frozen=True)
class Diagnosis:
    """The answer.

    Attributes:
        machine: the facts.
        processes: training processes that the advice is for.
        advice: what to set.
        command: the command that trains so.
        flaws: what to mend, the fatal first.
        config: of a configuration: what it would use.
    """

    machine: Machine
    processes: int
    advice: list[Advice]
    command: str
    flaws: list[Flaw]
    config: ConfigReport | None = None

    @property
    def can_train(self) -> bool:
        """Whether nothing makes training impossible."""
        return not any(flaw.fatal for flaw in self.flaws)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        configured = self.config.configured if self.config is not None else {}
        return {
            "can_train": self.can_train,
            "facts": dataclasses.asdict(self.machine),
            "processes": self.processes,
            "recommendations": [
                {**dataclasses.asdict(advice), "configured": configured.get(advice.key)} for advice in self.advice
            ],
            "command": self.command,
            "flaws": [dataclasses.asdict(flaw) for flaw in self.flaws],
            "config": None if self.config is None else self.config.uses,
        }


def diagnose(
    config: ConfigLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    num_processes: int | None = None,
    by_hand: str = "overrides",
) -> Diagnosis:
    """Examine this machine, and with a configuration what that would use here.

    Args:
        config, overrides: as for `train`. What is wrong with them is part of the answer.
        num_processes: training processes on this machine; None: as many as make sense, and one for the configuration.
        by_hand: what the overrides are called in errors.

    Raises:
        ConfigError: less than one process, or overrides of nothing.
    """
    if num_processes is not None and num_processes < 1:
        raise ConfigError(f"is {num_processes}", where="--num_processes", fix="Use 1 or more.")
    if config is None and overrides:
        raise ConfigError("there is no configuration to override", where=by_hand, fix="Add --config FILE.")
    machine = examine_machine()
    report = None
    if config is not None and machine.torch.version is not None:
        from mltrain.workflows.doctor_config import examine_config

        report = examine_config(config, overrides, num_processes or 1, by_hand=by_hand)
        if report.config is not None:
            machine = dataclasses.replace(machine, disks=_disks(report.config))
    file = str(config) if isinstance(config, str | os.PathLike) else "FILE"
    return judge(machine, num_processes, report, file=file, overrides=overrides)


def judge(
    machine: Machine,
    num_processes: int | None,
    report: ConfigReport | None = None,
    *,
    file: str = "FILE",
    overrides: Mapping[str, Any] | None = None,
) -> Diagnosis:
    """Return what follows from the facts of a machine, and of a configuration on it.

    Args:
        machine: the facts.
        num_processes: training processes there; None: as many as make sense.
        report: what `examine_config` said.
        file, overrides: the configuration's file, and what was set by hand.
    """
    uses = report.uses if report is not None else {}
    seen = machine.without_accelerators() if uses.get("device") == "cpu" else machine
    processes = num_processes or sensible_processes(seen)
    batch_bytes = uses.get("batch_bytes")
    configured = (report.configured if report is not None else {}) or DEFAULTS
    advice = advise(seen, processes, batch_bytes=batch_bytes, trainer=configured["training.trainer_type"])
    command = command_line(advice, file, configured=configured, overrides=overrides)
    flaws = find_flaws(seen, processes, batch_bytes=batch_bytes, precision=uses.get("precision"))
    if report is not None:
        from mltrain.workflows.doctor_config import judge_sizes

        flaws = sorted([*report.flaws, *judge_sizes(report, seen), *flaws], key=lambda flaw: not flaw.fatal)
    return Diagnosis(machine, processes, advice, command, flaws, report)


def examine_machine() -> Machine:
    """Return the facts of this machine. It starts the GPUs, which takes seconds."""
    torch, devices, processor = torch_facts(host_facts.processor())
    return Machine(
        host=host_facts.host(),
        processor=processor,
        memory=host_facts.memory(),
        shared_memory=shared_memory(),
        disks=_disks(None),
        torch=torch,
        devices=devices,
        nvidia=host_facts.nvidia(),
        packages=package_versions(),
    )


def _disks(config: Config | None) -> tuple[Disk, ...]:
    """Return the folders of a run."""
    run = config.run if config is not None else RunSection()
    found = [disk("run.dir", Path(run.dir), written=True)]
    if config is not None:
        found.append(disk("data.data_dir", Path(config.data.data_dir), written=False))
    own = cache_folder()
    if own is not None:
        found.append(disk("cache", own, written=True))
    hub = _hub_cache()
    if hub is not None:
        found.append(disk("hub cache", hub, written=True))
    return tuple(found)


def _hub_cache() -> Path | None:
    """Return where weights of the Hugging Face hub are kept."""
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except Exception:  # told of as a missing or broken package
        return None
    return Path(HF_HUB_CACHE)
