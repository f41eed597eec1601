"""What the model will see of a split, as a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mltrain.config.load import name_place
from mltrain.core.errors import ConfigError, MltrainError
from mltrain.tasks.base import TASKS
from mltrain.workflows.checks import check_batch_size
from mltrain.workflows.contact_sheet import contact_sheet, png_bytes
from mltrain.workflows.request import ConfigLike, read_request
from mltrain.workflows.samples import sample_tiles

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
        checked = request.load().config
        task = TASKS.get(checked.task)(checked)
        check_batch_size(checked, task)
        tiles = sample_tiles(checked, task, split, count=count, epoch=epoch)
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
