"""The tasks behind `mltrain.Trainer`: a module and data sets of the user's own, made in a script."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from mltrain.config.schema import Config
from mltrain.config.section import DataSection, ModelSection
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.logging import log
from mltrain.data.dataset import SampleDataset
from mltrain.data.item_digest import items_digest
from mltrain.data.loader import Batch
from mltrain.models.registry import logits_of
from mltrain.tasks.base import Losses, Metrics, Predict, Task, register_task
from mltrain.tasks.classification_report import write_classification_report
from mltrain.tasks.own_batches import Collate, call, own_batch
from mltrain.tasks.own_metrics import NoMetrics, OutputSizedMetrics

__all__ = ["OwnClassification", "OwnLoss", "OwnModule", "OwnParts"]

LossFunction = Callable[[Any, torch.Tensor], torch.Tensor]
"""(outputs of the model, labels) -> one value for each example, shape (B,)."""


class OwnDataSection(DataSection):
    """Data sets of a script. `data_dir`, `splits_dir` and `fold` have no meaning here."""

    data_dir: str = Field("", description="Not used: the script has the data.")


class OwnModelSection(ModelSection):
    """A module of a script."""

    architecture: str = Field("module", description="Name of the module's class.")


@dataclass(frozen=True)
class OwnParts:
    """What the script gave.

    Attributes:
        model: the module; it is trained in place.
        datasets: the splits.
        collate: items -> batch; None: torch's default.
        loss: per-example losses; None: cross-entropy.
        metrics: name -> per-example values, averaged over the examples of a split.
    """

    model: nn.Module
    datasets: Mapping[str, SampleDataset]
    collate: Collate | None = None
    loss: LossFunction | None = None
    metrics: Mapping[str, LossFunction] = field(default_factory=dict)


class OwnModule(Task):
    """What both tasks share.

    Args:
        config: the checked configuration.
        parts: what the script gave; None where a configuration alone was given, which is not enough.
    """

    data_section = OwnDataSection
    model_section = OwnModelSection

    def __init__(self, config: Config, parts: OwnParts | None = None) -> None:
        super().__init__(config)
        if parts is None:
            raise ConfigError(
                f"{config.task} needs the module and the data sets of a Python script",
                where="task",
                fix="Run the script that called mltrain.Trainer.",
            )
        self._parts = parts

    def datasets(self) -> dict[str, SampleDataset]:
        """Return the splits."""
        return dict(self._parts.datasets)

    def collate(self, items: list[Any]) -> Batch:
        """Return a batch with "labels"."""
        return own_batch(items, self._parts.collate)

    def build_model(self) -> nn.Module:
        """Return the user's module itself, with the weights it has."""
        return self._parts.model

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Return the loss of each example and, as parts, the values of the user's metrics."""
        labels = batch["labels"]
        outputs = call(model, batch)
        values = self.per_example(outputs, labels)
        _check_shape("loss", values, labels)
        with torch.no_grad():
            parts = {name: metric(outputs, labels) for name, metric in self._parts.metrics.items()}
        for name, part in parts.items():
            _check_shape(f"metrics[{name!r}]", part, labels)
        return Losses(values, outputs, parts)

    @abstractmethod
    def per_example(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of each example, (B,)."""

    def check_labels(self, labels: torch.Tensor) -> None:
        """Raise DataError where the labels of a batch are not of the kind that the loss takes."""

    def metric_names(self) -> tuple[str, ...]:
        """Return the loss, the user's metrics and the task's own."""
        return ("loss", *self._parts.metrics, *self.metrics().names)

    def data_facts(self) -> dict[str, Any]:
        """Return a digest of the lengths and of a few items of each split; the whole data is not read for it."""
        digests, odd = {}, []
        for split, dataset in self._parts.datasets.items():
            digests[split], same = items_digest(dataset)
            odd += [] if same else [split]
        if odd:
            log.warning(
                "Items of the %s split differ when they are read twice with the same seeds: a resumed run will not be "
                "bit-exact. Draw from the generators of random, numpy.random and torch that are global.",
                " and the ".join(odd),
            )
        return {
            "digest": hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest(),
            "digest_is_of": "the length of each split and up to 8 of its items",
            "items_differ_when_read_twice": odd,
            "code": {"module": _digest(repr(self._parts.model)), "loss": _digest(repr(self._parts.loss))},
            "counts": {split: len(dataset) for split, dataset in self._parts.datasets.items()},
        }

    def package(self) -> dict[str, Any]:
        """Return the name of the module's class: its code is the user's."""
        return {"module": _name(self._parts.model)}

    @classmethod
    def unpack(cls, package: Mapping[str, Any]) -> tuple[nn.Module, Predict]:
        """Refuse, and say how the weights are put to use: the module's code is not in the package."""
        raise ConfigError(
            f"the package holds the weights of {package['module']}, whose code is yours",
            where="load_model",
            fix="Make that module and call module.load_state_dict(safetensors.torch.load_file('model.safetensors')).",
        )

    def __getstate__(self) -> dict[str, Any]:
        # Loader processes that are not forked get a copy of the task for its `collate`; the model stays here.
        return {"config": self.config, "_parts": OwnParts(nn.Identity(), {}, self._parts.collate)}


@register_task("own_classification")
class OwnClassification(OwnModule):
    """Cross-entropy over whole class numbers; the number of classes is that of the model's outputs."""

    headline: ClassVar[tuple[str, str]] = ("val/accuracy", "max")

    def per_example(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return cross-entropy, by the user's criterion or the default one."""
        if self._parts.loss is not None:
            return self._parts.loss(outputs, labels)
        logits, smoothing = logits_of(outputs).float(), self.config.training.label_smoothing
        if logits.ndim != 2 or len(logits) != len(labels):
            raise ConfigError(
                f"gives outputs of shape {tuple(logits.shape)} for {len(labels)} examples",
                where="model",
                fix=f"They must have the shape ({len(labels)}, number of classes).",
            )
        try:
            return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        except IndexError:
            raise DataError(
                f"there is a class number {int(labels.max())}, but the model has {logits.shape[1]} outputs, from 0 on",
                where="labels",
                fix="Correct the labels, or give the model an output for each class.",
            ) from None

    def check_labels(self, labels: torch.Tensor) -> None:
        """Refuse what is no whole class number."""
        if labels.ndim != 1 or labels.is_floating_point():
            kind = str(labels.dtype).removeprefix("torch.")
            raise DataError(
                f"a batch of one has labels of {kind} and shape {tuple(labels.shape)}, not whole class numbers (1,)",
                where="labels",
                fix="Give class numbers from 0 on, or a loss of your own.",
            )

    def collate(self, items: list[Any]) -> Batch:
        """Return a batch with "labels", int64."""
        batch = super().collate(items)
        if not batch["labels"].is_floating_point() and int(batch["labels"].min()) < 0:
            raise DataError(
                f"there is a class number {int(batch['labels'].min())}",
                where="labels",
                fix="Number the classes from 0 on; leave out what has no class.",
            )
        return batch if batch["labels"].is_floating_point() else {**batch, "labels": batch["labels"].long()}

    def metrics(self) -> Metrics:
        """Return accuracy and macro precision, recall and F1."""
        return OutputSizedMetrics()

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the most probable class of each example and its probability."""
        probability, index = logits_of(outputs).float().softmax(dim=-1).max(dim=-1)
        return [
            {"class": number, "probability": share}
            for number, share in zip(index.tolist(), probability.tolist(), strict=True)
        ]

    def write_reports(self, split: str, metrics: Metrics, *, logs: Path, reports: Path) -> None:
        """Write the classification report and the confusion matrix of a split."""
        assert isinstance(metrics, OutputSizedMetrics)
        confusion = metrics.confusion
        write_classification_report(split, confusion, [*map(str, range(len(confusion)))], logs=logs, reports=reports)


@register_task("own_loss")
class OwnLoss(OwnModule):
    """A loss of the user's own."""

    def __init__(self, config: Config, parts: OwnParts | None = None) -> None:
        super().__init__(config, parts)
        if config.training.label_smoothing:
            raise ConfigError(
                "has no effect on a loss of your own", where="training.label_smoothing", fix="Leave it out."
            )

    def per_example(self, outputs: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return what the user's function gives."""
        assert self._parts.loss is not None
        return self._parts.loss(outputs, labels)

    def metrics(self) -> Metrics:
        """Return nothing beside the loss and the user's metrics, which are means."""
        return NoMetrics()

    def predictions(self, outputs: Any) -> list[dict[str, Any]]:
        """Return the outputs of each example."""
        return [{"output": row} for row in outputs.tolist()]


def _digest(text: str) -> str:
    """Return a digest of how an object shows itself, without the addresses of this process."""
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()[:12]


def _name(model: nn.Module) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _check_shape(what: str, values: Any, labels: torch.Tensor) -> None:
    if isinstance(values, torch.Tensor) and values.shape == labels.shape[:1]:
        return
    size = len(labels)
    if not isinstance(values, torch.Tensor):
        given = f"a {type(values).__name__}"
    else:
        given = "one number" if values.ndim == 0 else f"shape {tuple(values.shape)}"
    wide = isinstance(values, torch.Tensor) and values.ndim > 1 and len(values) == size
    raise ConfigError(
        f"gave {given} for {size} examples; it must give one value for each, shape ({size},)",
        where=what,
        fix="Take the mean over the other dimensions." if wide else "With torch's losses: reduction='none'.",
    )
