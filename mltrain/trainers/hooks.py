"""What a trainer may override, with what those do that override nothing. The step itself stands in `base.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn

from mltrain.config.schema import Config
from mltrain.core.run_folder import RunFolder
from mltrain.core.seeding import stream_key
from mltrain.data.loader import Plan, Window
from mltrain.tasks.base import Task
from mltrain.tasks.sample_order import training_plan
from mltrain.trainers.devices import new_accelerator
from mltrain.trainers.layout import Layout
from mltrain.trainers.microbatches import Microbatches
from mltrain.trainers.processes import Processes
from mltrain.trainers.updates import Update

__all__ = ["TrainerHooks"]


class TrainerHooks:
    """The pieces of a trainer that differ from one to another.

    Class attributes:
        name: as it is registered.
        guarantee: what the runs of this trainer promise beyond being trained; a run is continued only by a trainer of
            the same. None: nothing.
        default_selection: `checkpointing.selection` where the configuration leaves it open.
    """

    name: ClassVar[str]
    guarantee: ClassVar[str | None] = None
    default_selection: ClassVar[str] = "best"

    config: Config
    task: Task
    accelerator: Accelerator
    processes: Processes
    layout: Layout
    window_size: int

    # ---- before the run --------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, config: Config) -> None:
        """Raise HardwareError or ConfigError where this trainer cannot do what the configuration asks for."""

    @classmethod
    def check_task(cls, config: Config, task: Task, continued: RunFolder | None) -> None:
        """Raise ConfigError where it cannot train this task on this data, or not continue this run."""

    @classmethod
    def make_accelerator(cls, config: Config) -> Accelerator:
        """Return the Accelerator: devices, processes and precision."""
        return new_accelerator(config.training.device, mixed_precision="no")

    @classmethod
    def non_private(cls, config: Config) -> tuple[str, ...]:
        """Return patterns of the logged names that no privacy guarantee covers; none where the trainer gives none.

        As in .gitignore: "*" stands for anything, "!" before a pattern takes names out again, the last match counts.
        """
        return ()

    @classmethod
    def repeats_exactly(cls, config: Config) -> bool:
        """Return whether two runs of this configuration, stopped and continued or not, come to the same bits."""
        return True

    # ---- the parts of the run --------------------------------------------------------------------------------------

    def random_key(self, purpose: str) -> int:
        """Return the 64-bit key of a stream of random numbers in training: dropout of steps, draws in an epoch."""
        return stream_key(self.config.seed, purpose)

    def make_plan(self, num_samples: int, window_size: int) -> Plan:
        """Return which samples make up which window."""
        return training_plan(self.task, num_samples, window_size, self.config.seed)

    def make_microbatches(self) -> Microbatches:
        """Return how windows of the plan are cut."""
        return Microbatches(
            self.processes.rank,
            self.processes.count,
            self.config.training.batch_size,
            self.task.group_size,
            in_step=self.layout.exchanges_weights,
        )

    def adapt(self, model: nn.Module) -> list[str]:
        """Change a new model in place, so that this trainer can train it; returns what was changed, for people."""
        return []

    def prepare(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer, Update]:
        """Return the model as it is called, the optimizer whose state counts, and how steps are taken."""
        return self.layout.prepare(model, optimizer, self.config.training.max_grad_norm)

    def close(self) -> None:
        """Let go of what the trainer itself has opened."""

    # ---- during the run --------------------------------------------------------------------------------------------

    def steps_allowed(self) -> int:
        """Return how many more steps may be taken, whatever the number of epochs."""
        return sys.maxsize

    def limit_text(self) -> str:
        """Return why no more steps are allowed, for people."""
        return ""

    def samples_of(self, window: Window) -> int:
        """Return how many samples a window counts for."""
        return window.num_examples

    def extra_values(self) -> dict[str, float]:
        """Return further values for a log point."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Return further state for a checkpoint, as JSON values."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    # ---- what is told of the run -----------------------------------------------------------------------------------

    def window_text(self) -> str:
        """Return how large a window is."""
        return f"up to {self.window_size} samples"

    def begin(self) -> None:
        """Say, or write, what is worth it when the state is restored and the first step comes next."""

    def status_text(self) -> str:
        """Return what the progress line shows beside the counts, or nothing."""
        return ""

    def write_reports(self, reports: Path) -> None:
        """Write reports of the trainer's own when the training of a segment has ended; on the main process."""

    def summary_facts(self) -> dict[str, Any]:
        """Return further facts for the summary."""
        return {}
