"""The six questions that a task answers. It knows no device, rank or trainer."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mltrain.config.schema import Config, config_class
from mltrain.config.section import DataSection, ModelSection
from mltrain.core.code_place import code_place
from mltrain.core.errors import ConfigError
from mltrain.core.plugins import load_plugins
from mltrain.core.registry import Registry
from mltrain.data.data_files import DataFile
from mltrain.data.dataset import SampleDataset
from mltrain.data.loader import Batch

if TYPE_CHECKING:
    from PIL import Image

Predict = Callable[[Any], list[dict[str, Any]]]

__all__ = ["TASKS", "Losses", "Metrics", "Predict", "Task", "register_task", "task_config_class"]


@dataclass(slots=True)
class Losses:
    """What a task computes of a batch of B examples.

    values: loss of each example, shape (B,), float.
    outputs: what metrics and predictions are made from; any tensor or dict of tensors.
    parts: named shares of the loss, each (B,), logged beside it.
    """

    values: torch.Tensor
    outputs: Any
    parts: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.values, torch.Tensor) or self.values.ndim != 1 or not self.values.is_floating_point():
            raise _wrong_losses(self.values)


def _wrong_losses(values: Any) -> ConfigError:
    """Return what is wrong, with the place in the task's code that made the losses."""
    frame = sys._getframe(3)  # of the caller of Losses(...)
    given = type(values).__name__
    if isinstance(values, torch.Tensor):
        kind = "" if values.is_floating_point() else f"{str(values.dtype).removeprefix('torch.')} "
        given = f"a {kind}tensor of shape {tuple(values.shape)}"
    return ConfigError(
        f"the losses of a batch are {given}; there must be one loss for each example, a float, shape (B,)",
        where=f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}, {frame.f_code.co_qualname}",
        fix="With torch's losses: reduction='none', and the mean over all dimensions but the first.",
    )


class Metrics(ABC):
    """An accumulator over batches. Its state is JSON, so that it can stand in a checkpoint and be merged over ranks."""

    names: tuple[str, ...]
    """What `compute` gives: known before anything is computed, so that a monitor can be checked."""

    @abstractmethod
    def update(self, outputs: Any, batch: Batch) -> None:
        """Take in the outputs of one batch. Must not wait for the device."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return the metrics over everything taken in, by name without split: {"accuracy": 0.97}."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything taken in, as JSON values."""

    @abstractmethod
    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another accumulator took in."""


class Task(ABC):
    """A task. Built from a checked configuration; raises ConfigError or DataError before any compute is spent.

    Class attributes:
        data_section, model_section: the task's sections of the configuration.
        headline: the metric that makes a checkpoint the best by default, and whether "max" or "min" of it.
        takes_evaluation_modules: `metrics` feeds the evaluate modules of `config.evaluation.metrics` as well, and its
            names have theirs among them; a task that does not has them refused.
    """

    data_section: ClassVar[type[DataSection]] = DataSection
    model_section: ClassVar[type[ModelSection]] = ModelSection
    headline: ClassVar[tuple[str, str]] = ("val/loss", "min")
    takes_evaluation_modules: ClassVar[bool] = False

    def __init__(self, config: Config) -> None:
        self.config = config

    @abstractmethod
    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits: "train", and "val" and "test" where there are any."""

    @abstractmethod
    def collate(self, items: list[Any]) -> Batch:
        """Return a batch, a dict of tensors, from the samples of a data set. Runs in the loader's workers."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return a new model with fresh weights, drawn from torch's default generator."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the loss of each example. It must not depend on the other examples of the batch."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """Return a new accumulator."""

    @abstractmethod
    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return one row of plain values for each example, for people and files."""

    def example_weights(self, batch: Batch) -> torch.Tensor | None:
        """Return the weight of each example in the mean over its window, (B,); None: each counts once.

        The gradient of a step is that of sum(weights * losses) / sum(weights) over the whole window. A token-level
        task returns the number of tokens of each example and mean losses over them. Given the batch as collated, on
        the host: the sum over the window must be known before its first backward pass.
        """
        return None

    @property
    def group_size(self) -> int:
        """How many neighbours of a training window `collate` combines with one another; no cut separates them.

        1: every sample stands for itself. Otherwise the batch size must be a multiple of it, and the last group of a
        window may be smaller. Evaluation always takes single samples.
        """
        return 1

    def sample_lengths(self) -> Sequence[int] | NDArray[np.integer] | None:
        """Return a length of each training sample, where windows are to hold samples of similar length.

        None: samples meet at random. Private training draws each sample by itself and takes no notice.
        """
        return None

    def metric_names(self) -> tuple[str, ...]:
        """Return the names that are logged for each split. A task whose losses have parts adds theirs."""
        return ("loss", *self.metrics().names)

    def preview(self, batch: Batch) -> list[tuple[Image.Image, str]]:
        """Return what people can see of each example of a collated batch: an image and a caption of one line.

        Raises:
            ConfigError: the task has nothing to show.
        """
        raise ConfigError(
            f"{self.config.task} has nothing to show", where="task", fix=f"Add {type(self).__name__}.preview."
        )

    def initial_weights(self) -> Mapping[str, str] | None:
        """Return what identifies the weights that a new model begins with: `source` and `sha256`. None: the seed."""
        return None

    def continue_from_checkpoint(self, initial_weights: Mapping[str, str] | None) -> None:  # noqa: B027
        """Take note that a checkpoint will replace all weights, so that initial ones need not be there any more.

        Args:
            initial_weights: those that the run began with.
        """

    def fitted(self) -> Mapping[str, Any]:
        """Return, as JSON values, what was computed from the training data before training: a vocabulary, say.

        A run keeps it, and is continued with it: see `take_fitted`. `data_facts` says in `fitted` what identifies each.
        """
        return {}

    def take_fitted(self, fitted: Mapping[str, Any]) -> None:  # noqa: B027
        """Use what the run that is continued has kept, instead of computing it anew. Called before all else."""

    def data_facts(self) -> dict[str, Any]:
        """Return what identifies the data: `digest` and whatever else helps to review a run (classes, counts).

        `fitted`, name -> digest, says what else a continued run must have as it was.
        """
        return {}

    def data_files(self) -> Iterable[DataFile]:
        """Give the files behind `data_facts`, so that a change of the data can be told file by file."""
        return ()

    def package(self) -> dict[str, Any]:
        """Return, as JSON values, what is needed to use the model without the run: see `tasks.package`."""
        return {}

    def write_package_files(self, folder: Path) -> None:  # noqa: B027
        """Write further files into the folder of a package, for other libraries; `unpack` must not need them."""

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Return a new model for the weights of a package, and a function (inputs) -> rows of predictions.

        The function uses the very model returned, so it predicts with whatever weights are loaded into it.
        """
        raise ConfigError("this task cannot load a packed model", where="task", fix=f"Add {cls.__name__}.unpack.")

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:  # noqa: B027
        """Write the task's own reports about a split."""


_Kind = TypeVar("_Kind", bound=Task)

TASKS: Registry[type[Task]] = Registry(
    "task",
    builtin={
        "distributed_charges": "mltrain.tasks.distributed_charges",
        "image_classification": "mltrain.tasks.image_classification",
        "joint": "mltrain.tasks.joint",
        "multimodal_autoencoder": "mltrain.tasks.multimodal_autoencoder",
        "own_classification": "mltrain.tasks.own_module",
        "own_loss": "mltrain.tasks.own_module",
        "span_extraction": "mltrain.tasks.span_extraction",
        "tabular": "mltrain.tasks.tabular",
        "text_classification": "mltrain.tasks.text_classification",
    },
    group="mltrain.tasks",
    config_key="task",
)


def register_task(name: str) -> Callable[[type[_Kind]], type[_Kind]]:
    """Return a decorator that enters a class of tasks under `name`.

    Raises:
        ConfigError: the name is taken, or what is decorated is no class derived from `Task`, or lacks some of it.
    """
    enter = TASKS.register(name)

    def checked(kind: type[_Kind]) -> type[_Kind]:
        if not (isinstance(kind, type) and issubclass(kind, Task)):
            raise ConfigError(f"task {name!r} is no Task", where=code_place(kind), fix="Derive the class from Task.")
        enter(kind)
        return kind

    return checked


def task_config_class(task: str, plugins: Sequence[str]) -> type[Config]:
    """Return the configuration class of a task, after importing the plugins that may define it."""
    load_plugins(plugins)
    kind = TASKS.get(task)
    return config_class(kind.data_section, kind.model_section)
