"""Examples of a split as the model gets them, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from mltrain.config.schema import Config
from mltrain.core.errors import DataError
from mltrain.core.logging import log
from mltrain.data.loader import Batch, EvaluationLoader, LoaderSettings, TrainingStream
from mltrain.data.plan import Cut, OrderedPlan, Position
from mltrain.tasks.base import Task
from mltrain.tasks.sample_order import training_plan
from mltrain.workflows.contact_sheet import contact_sheet, png_bytes

__all__ = ["draw_samples", "sample_tiles"]

# Neither what is augmented nor what is mixed depends on the size of a microbatch: no more is loaded than is shown.
_BATCH = 16


def sample_tiles(
    config: Config, task: Task, split: str, *, count: int, epoch: int = 0
) -> list[tuple[Image.Image, str]]:
    """Return the first `count` examples, images with captions: of training in an epoch's order, else in their own.

    Raises:
        ConfigError: the task has nothing to show.
        DataError: there is no such split, or its data cannot be read.
    """
    batches = _training_batches(config, task, epoch) if split == "train" else _evaluation_batches(task, split)
    tiles: list[tuple[Image.Image, str]] = []
    for batch in batches:
        tiles += task.preview(batch)
        if len(tiles) >= count:
            break
    return tiles[:count]


def draw_samples(config: Config, task: Task, path: Path) -> None:
    """Draw the first training examples to a PNG file, where the task can show any. A failure is told, not raised."""
    if type(task).preview is Task.preview:
        return
    try:
        path.write_bytes(png_bytes(contact_sheet(sample_tiles(config, task, "train", count=_BATCH))))
    except Exception as error:
        log.warning("%s is not drawn: %s: %s", path.name, type(error).__name__, error)


def _training_batches(config: Config, task: Task, epoch: int) -> Iterator[Batch]:
    """Yield the microbatches of an epoch as one process computes them."""
    dataset = _split(task, "train")
    training = config.training
    window_size = training.batch_size * training.gradient_accumulation_steps
    plan = training_plan(task, len(dataset), window_size, config.seed)
    stream = TrainingStream(
        dataset,
        task.collate,
        plan,
        Cut(0, 1, _BATCH * task.group_size, task.group_size),
        seed=config.seed,
        settings=LoaderSettings(),
        start=Position(epoch=epoch),
        num_epochs=epoch + 1,
    )
    for window in stream.windows(plan.windows_per_epoch):
        yield from window.batches


def _evaluation_batches(task: Task, split: str) -> Iterator[Batch]:
    dataset = _split(task, split)
    loader = EvaluationLoader(
        dataset, task.collate, OrderedPlan(len(dataset), _BATCH), Cut(0, 1, _BATCH), settings=LoaderSettings()
    )
    for batch, _ in loader:
        yield batch


def _split(task: Task, split: str) -> Any:
    splits = task.datasets()
    if split not in splits:
        raise DataError(f"there is no split {split!r}", where="--split", fix=f"Use one of: {', '.join(splits)}.")
    return splits[split]
