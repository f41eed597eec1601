"""What a process does beside training because a launcher of ours started it; in any other nothing of this happens."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mltrain.core.errors import MltrainError
from mltrain.core.parent_process import end_with_parent
from mltrain.workflows.launch_state import LAUNCHER, STARTED, folder_to_continue, is_rank, note_error

__all__ = ["as_rank", "continued", "launched_at"]


@contextlib.contextmanager
def as_rank() -> Iterator[None]:
    """End with the launcher, however it ends, and leave it the error that this process ends with."""
    if is_rank():
        end_with_parent(int(os.environ[LAUNCHER]))
    try:
        yield
    except MltrainError as error:
        note_error(error.problems)
        raise


def continued(overrides: Mapping[str, Any], resume: str | None) -> tuple[dict[str, Any], str | None]:
    """Return what was given by hand, or, after a restart, what continues the run that this launch had begun."""
    folder = folder_to_continue()
    if folder is None:
        return dict(overrides), resume
    return {key: value for key, value in overrides.items() if key != "run.name"}, str(folder)


def launched_at(otherwise: float) -> float:
    """Return when the launcher began, by `time.monotonic`: a limit of time counts from there, restarts included."""
    return float(os.environ[STARTED]) if is_rank() else otherwise
