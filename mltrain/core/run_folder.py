"""The run folder: where everything of a run lies, and the guarantee that one run at a time writes into it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mltrain.core.errors import RunFolderError

__all__ = ["RunFolder", "create_run_folder", "open_run_folder", "refuse_taken_name"]

_LONGEST_NAME = 200
_SUBFOLDERS = ("logs", "checkpoints", "reports", "tracking")


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run folder. Paths are made here and nowhere else."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name: the folder's own."""
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved configuration, enough to repeat the run."""
        return self.path / "config.yaml"

    @property
    def metadata(self) -> Path:
        """Git commit, packages, hardware, data digest and command line."""
        return self.path / "metadata.json"

    @property
    def requirements(self) -> Path:
        """The installed packages, in pip's format."""
        return self.path / "requirements.txt"

    @property
    def metrics(self) -> Path:
        """Every logged value, one JSON object a line: the source of truth."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """How the run ended, for programs."""
        return self.path / "summary.json"

    @property
    def summary_text(self) -> Path:
        """How the run ended, for people."""
        return self.path / "summary.txt"

    @property
    def logs(self) -> Path:
        """The log and the classification reports."""
        return self.path / "logs"

    @property
    def checkpoints(self) -> Path:
        """Committed checkpoints and the pointers `best` and `last`."""
        return self.path / "checkpoints"

    @property
    def reports(self) -> Path:
        """Figures."""
        return self.path / "reports"

    @property
    def model(self) -> Path:
        """The chosen weights with their configuration; loads without the run."""
        return self.path / "model"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def tracking(self) -> Path:
        """What each tracker needs to know of its own run (an MLflow run ID, say)."""
        return self.path / "tracking"

    def lock(self) -> FileLock:
        """Return the held lock of this folder; a folder that another process writes into is refused.

        The operating system releases the lock when the process ends, however it ends.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunFolderError(
                "another process is writing into this run folder",
                where=str(self.path),
                fix="Wait for it to end, or start a run of another name.",
            ) from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return lock

    def make_subfolders(self) -> None:
        """Create the folders that the run writes into."""
        for name in _SUBFOLDERS:
            (self.path / name).mkdir(exist_ok=True)


def create_run_folder(parent: Path, name: str, *, numbered: bool) -> RunFolder:
    """Create a new run folder.

    Args:
        parent: the folder of all runs; made if missing.
        name: the run's name.
        numbered: when the name is taken, append `_2`, `_3`, ... (a name made by the program), or else refuse
            (a name the user chose).
    """
    _check_name(name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for candidate in _candidates(name) if numbered else iter([name]):
            try:
                (parent / candidate).mkdir()  # creation is atomic: of two processes one gets the name
            except FileExistsError:
                continue
            folder = RunFolder((parent / candidate).resolve())
            folder.make_subfolders()
            return folder
    except OSError as error:
        raise _unwritable(parent, error) from None
    raise _taken(parent / name)


def refuse_taken_name(parent: Path, name: str) -> None:
    """Raise RunFolderError where a run of this name exists: before time is spent on data that will not be used."""
    _check_name(name)
    # Of a launcher's processes the first makes the folder, perhaps before the others come here.
    if os.environ.get("RANK", "0") == "0" and (parent / name).exists():
        raise _taken(parent / name)


def open_run_folder(path: Path) -> RunFolder:
    """Open the folder of an earlier run."""
    if not (path / "config.yaml").is_file():
        raise RunFolderError(
            "not a run folder (it has no config.yaml)", where=str(path), fix="Name a folder that ml-train made."
        )
    folder = RunFolder(path.resolve())
    try:
        folder.make_subfolders()
    except OSError as error:
        raise _unwritable(path, error) from None
    return folder


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}_{number}"
        number += 1


def _check_name(name: str) -> None:
    if not name.strip() or name.startswith(".") or not name.isprintable() or re.search(r"[/\\]", name):
        raise RunFolderError(
            f"{name!r} cannot name a folder", where="run.name", fix="Use letters, digits, '.', '_', '=' and '-'."
        )
    if len(name.encode()) > _LONGEST_NAME:
        raise RunFolderError(
            f"{name[:40]}... cannot name a folder: it has {len(name.encode())} bytes",
            where="run.name",
            fix=f"Use at most {_LONGEST_NAME}.",
        )


def _taken(path: Path) -> RunFolderError:
    return RunFolderError(
        "this run already exists",
        where=str(path),
        fix=f"Choose another --run_name, or continue it with --resume {os.path.relpath(path)}.",
    )


def _unwritable(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(
        f"cannot write here ({error.strerror})", where=str(path), fix="Choose another run.dir, or mend its permissions."
    )
