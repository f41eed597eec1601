"""What `train` gives back in Python: the run's figures, its folder, its history and its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mltrain.core.errors import RunFolderError
from mltrain.core.run_folder import RunFolder
from mltrain.tasks.base import Task
from mltrain.tasks.package import PackedModel, load_trained
from mltrain.tracking.metrics_log import NOT_VALUES, read_metrics

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TrainResult"]

_SPLITS = ("train", "val", "test")
_PLACES = ("step", "epoch", "time")


@dataclass(frozen=True, repr=False)
class TrainResult:
    """How a run ended. (A run that failed gives none: its error was raised.)

    Attributes:
        summary: what `summary.json` holds.
        folder: the run folder: everything the run has left.
        signal: number of the signal that interrupted the run, or None.
        task: gives the task, for the model to be rebuilt.
    """

    summary: Mapping[str, Any]
    folder: Path
    signal: int | None
    task: Callable[[], Task] = field(compare=False)

    @property
    def status(self) -> str:
        """`completed`, `early_stopped` or `interrupted`."""
        return str(self.summary["status"])

    @property
    def reason(self) -> str:
        """Why the run ended before its last epoch; empty when it did not."""
        return str(self.summary["reason"])

    @property
    def metrics(self) -> dict[str, float]:
        """The chosen weights on each split, flat: {"test/accuracy": 0.97, ...}. Empty when the run was interrupted."""
        return {
            f"{split}/{name}": value for split in _SPLITS for name, value in (self.summary.get(split) or {}).items()
        }

    @cached_property
    def history(self) -> pd.DataFrame:
        """The logged records, one a row: `step`, `epoch` (from 0), `time` (seconds since 1970) and the logged values.

        A value that was not logged at a row's step is NaN there.
        """
        import pandas as pd

        records = read_metrics(RunFolder(self.folder).metrics)
        values = list(dict.fromkeys(name for record in records for name in record if name not in NOT_VALUES))
        frame = pd.DataFrame.from_records(records, columns=[*_PLACES, *values])
        return frame.astype(dict.fromkeys(values, float))

    @cached_property
    def packed(self) -> PackedModel:
        """The packed model with its facts, read when first asked for.

        Raises:
            RunFolderError: the run was interrupted and has chosen no weights.
        """
        if self.status == "interrupted":
            raise RunFolderError(
                f"the run was interrupted ({self.reason}) and has no model yet",
                where=str(self.folder),
                fix=f"Continue it with resume={str(self.folder)!r}.",
            )
        return load_trained(RunFolder(self.folder).model, self.task())

    @property
    def model(self) -> nn.Module:
        """The chosen weights, in evaluation mode: the module of `packed`."""
        return self.packed.module

    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """Return a row of plain values for each input of the task's kind, such as paths of images."""
        return self.packed.predict(inputs)

    def __repr__(self) -> str:
        epochs = f"{self.summary['epochs']} epoch(s), {self.summary['steps']} steps"
        last = [split for split in _SPLITS if split in self.summary][-1:]
        shown = [f"{split}/{name} {value:.4f}" for split in last for name, value in self.summary[split].items()]
        reason = f" ({self.reason})" if self.reason else ""
        return f"<TrainResult {self.status}{reason}: {'; '.join([epochs, *shown[:4]])}; {self.folder}>"
