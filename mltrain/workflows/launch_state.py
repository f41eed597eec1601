"""What the ranks of one machine leave for their launcher, and for those that take their place after a restart."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mltrain.core.files import write_text

__all__ = [
    "LAUNCHER",
    "STARTED",
    "STATE",
    "LaunchState",
    "folder_to_continue",
    "is_rank",
    "note_error",
    "note_run_folder",
]

STATE = "MLTRAIN_LAUNCH_STATE"
"""The variable that names the folder; it is there in the processes of a launcher only."""
STARTED = "MLTRAIN_LAUNCH_STARTED"
"""The variable that says when the launcher began, by `time.monotonic`."""
LAUNCHER = "MLTRAIN_LAUNCHER"
"""The variable that holds the launcher's process ID."""

_RUN_FOLDER = "run_folder"


class LaunchState:
    """The launcher's side.

    Args:
        folder: private to this launch.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def run_folder(self) -> str | None:
        """The run folder, as soon as the ranks know it."""
        with contextlib.suppress(OSError):
            return (self._folder / _RUN_FOLDER).read_text(encoding="utf-8") or None
        return None

    @run_folder.setter
    def run_folder(self, path: str) -> None:
        write_text(self._folder / _RUN_FOLDER, path)

    def errors(self) -> Mapping[int, str]:
        """Return rank -> the error that it ended with, of those that wrote one down."""
        files = self._folder.glob("error_*")
        return {int(file.name.partition("_")[2]): file.read_text(encoding="utf-8") for file in files}


def is_rank() -> bool:
    """Return whether a launcher of ours started this process."""
    return STATE in os.environ


def note_run_folder(path: Path) -> None:
    """Write down which run this is. In a process without a launcher nothing happens."""
    if is_rank() and os.environ.get("LOCAL_RANK") == "0":
        write_text(Path(os.environ[STATE]) / _RUN_FOLDER, str(path))


def note_error(lines: Sequence[str]) -> None:
    """Write down an error that this process does not show, because the first rank mostly has the same."""
    rank = os.environ.get("RANK", "0")
    if is_rank() and rank != "0":
        with contextlib.suppress(OSError):
            write_text(Path(os.environ[STATE]) / f"error_{rank}", " ".join(lines))


def folder_to_continue() -> Path | None:
    """Return the run that an earlier attempt of this launch had begun; None: this is the first, or it had not."""
    if not is_rank() or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    path = LaunchState(Path(os.environ[STATE])).run_folder
    return Path(path) if path is not None and Path(path, "config.yaml").is_file() else None
