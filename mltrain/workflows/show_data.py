"""What the model will see of a split, as a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mltrain.config.load import name_place
from mltrain.config.schema import Config
from mltrain.core.errors import ConfigError, DataError, MltrainError
from mltrain.data.loader import Batch, EvaluationLoader, LoaderSettings, TrainingStream
from mltrain.data.plan import Cut, OrderedPlan, Position, ShuffledPlan
from mltrain.tasks.base import TASKS, Task
from mltrain.workflows.checks import check_batch_size
from mltrain.workflows.contact_sheet import contact_sheet, png_bytes
from mltrain.workflows.request import ConfigLike, read_request

__all__ = ["show_data"]


def show_data(
    config: ConfigLike,
    overrides: Mapping[str, Any] | None = None,
    *,
    split: str = "train",
    count: int = 32,
    epoch: int = 0,
    output: str | Path = "contact_sheet.png",
    overwrite: bool = False,
    by_hand: str = "overrides",
) -> int:
    """Draw the first examples of a split with their captions to a PNG file, and return how many there are.

    Those of the training split come in the order of the given epoch, augmented and mixed to the same bits as in a run
    with this configuration; those of other splits as in evaluation.

    Args:
        config, overrides: as for `train`.
        split: train, val or test.
        count: most examples.
        epoch: the epoch of the training split that is shown, from 0.
        output: the PNG file.
        overwrite: replace the file if it is there.
        by_hand: what the overrides are called in errors.

    Raises:
        ConfigError: the configuration is not valid, there is no such split, the task has nothing to show, or the file
            is there already or cannot be written.
        DataError: the data cannot be read.
    """
    path = Path(output)
    _check_target(path, overwrite=overwrite)
    for name, value, least in (("--count", count, 1), ("--epoch", epoch, 0)):
        if value < least:
            raise ConfigError(f"is {value}", where=name, fix=f"Use {least} or more.")
    request = read_request(config, overrides, by_hand=by_hand)
    try:
        tiles = _tiles(request.load().config, split, count=count, epoch=epoch)
    except MltrainError as error:
        name_place(error, request.file, request.overrides, by_hand=by_hand)
        raise
    content = png_bytes(contact_sheet(tiles))
    try:
        with path.open("wb" if overwrite else "xb") as stream:
            stream.write(content)
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise ConfigError(reason, where=str(path), fix="Choose another file.") from None
    return len(tiles)


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.suffix.lower() != ".png":
        raise ConfigError("is not the name of a PNG file", where=str(path), fix="Let it end in .png.")
    if path.exists() and not overwrite:
        raise ConfigError("is there already", where=str(path), fix="Name another --output, or add --overwrite.")


def _tiles(config: Config, split: str, *, count: int, epoch: int) -> list[tuple[Image.Image, str]]:
    task = TASKS.get(config.task)(config)
    check_batch_size(config, task)
    batches = _training_batches(config, task, epoch) if split == "train" else _evaluation_batches(config, task, split)
    tiles: list[tuple[Image.Image, str]] = []
    for batch in batches:
        tiles += task.preview(batch)
        if len(tiles) >= count:
            break
    return tiles[:count]


def _training_batches(config: Config, task: Task, epoch: int) -> Iterator[Batch]:
    """Yield the microbatches of an epoch as one process computes them."""
    dataset = _split(task, "train")
    training = config.training
    plan = ShuffledPlan(len(dataset), training.batch_size * training.gradient_accumulation_steps, config.seed)
    stream = TrainingStream(
        dataset,
        task.collate,
        plan,
        Cut(0, 1, training.batch_size, task.group_size),
        seed=config.seed,
        settings=LoaderSettings(),
        start=Position(epoch=epoch),
        num_epochs=epoch + 1,
    )
    for window in stream.windows(plan.windows_per_epoch):
        yield from window.batches


def _evaluation_batches(config: Config, task: Task, split: str) -> Iterator[Batch]:
    dataset = _split(task, split)
    size = config.training.eval_batch_size or config.training.batch_size
    loader = EvaluationLoader(
        dataset, task.collate, OrderedPlan(len(dataset), size), Cut(0, 1, size), settings=LoaderSettings()
    )
    for batch, _ in loader:
        yield batch


def _split(task: Task, split: str) -> Any:
    splits = task.datasets()
    if split not in splits:
        raise DataError(f"there is no split {split!r}", where="--split", fix=f"Use one of: {', '.join(splits)}.")
    return splits[split]
