"""The run folder: where everything of a run lies, and the guarantee that one run at a time writes into it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mltrain.core.errors import RunFolderError

__all__ = ["RunFolder", "create_run_folder", "open_run_folder", "refuse_folder_early"]

_LONGEST_NAME = 200
_SUBFOLDERS = ("logs", "checkpoints", "reports", "tracking")
_FIRST_FILES = (".lock", "logs/train.log", "data_files.jsonl.gz", "fitted.json", "metadata.json")
_TORN = re.compile(r"\.[^/]+\.tmp|logs/rank_\d+\.log")


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
    def data_files(self) -> Path:
        """The files that the run learns from; not there for a task that has no files."""
        return self.path / "data_files.jsonl.gz"

    @property
    def fitted(self) -> Path:
        """What the task has computed from the training data before training; not there for a task that does not."""
        return self.path / "fitted.json"

    @property
    def metrics(self) -> Path:
        """Every logged value, one JSON object a line: the source of truth."""
        return self.path / "metrics.jsonl"

    @property
    def privacy_ledger(self) -> Path:
        """Every step of private training, counted before it was taken; not there for other training."""
        return self.path / "privacy_ledger.jsonl"

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
            raise _unwritable(self.path, error, fix="Make this folder writable, or copy the run to one.") from None
        return lock

    def make_subfolders(self) -> None:
        """Create the folders that the run writes into."""
        for name in _SUBFOLDERS:
            (self.path / name).mkdir(exist_ok=True)


def create_run_folder(parent: Path, name: str, *, numbered: bool, may_be_left: bool = False) -> RunFolder:
    """Create a new run folder.

    Args:
        parent: the folder of all runs; made if missing.
        name: the run's name.
        numbered: when the name is taken, append `_2`, `_3`, ... (a name made by the program), or else refuse
            (a name the user chose).
        may_be_left: take the folder of this name where a run was killed before it had begun. Of two processes that do
            so the lock refuses one.
    """
    _check_name(name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for candidate in _candidates(name) if numbered else iter([name]):
            try:
                (parent / candidate).mkdir()  # creation is atomic: of two processes one gets the name
            except FileExistsError:
                if not (may_be_left and _is_unbegun(parent / candidate)):
                    continue
            folder = RunFolder((parent / candidate).resolve())
            folder.make_subfolders()
            return folder
    except OSError as error:
        raise _unwritable(parent, error) from None
    raise _taken(parent / name)


def refuse_folder_early(parent: Path, name: str | None, *, may_be_left: bool = False) -> None:
    """Raise RunFolderError where a run cannot be made: before time is spent on data that will not be used.

    Args:
        parent: the folder of all runs.
        name: the run's name, if the user chose it.
        may_be_left: see `create_run_folder`.
    """
    if name is not None:
        _check_name(name)
    # Of a launcher's processes the first makes the folder, perhaps before the others come here.
    if os.environ.get("RANK", "0") != "0":
        return
    if name is not None and (parent / name).exists() and not (may_be_left and _is_unbegun(parent / name)):
        raise _taken(parent / name)
    there = next(path for path in (parent, *parent.absolute().parents) if os.access(path, os.F_OK))
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(there).f_flag & os.ST_RDONLY
        raise _unwritable(parent, OSError(0, os.strerror(errno.EROFS if is_read_only else errno.EACCES)))


def open_run_folder(path: Path) -> RunFolder:
    """Open the folder of an earlier run.

    Raises:
        RunFolderError: it is none, cannot be written to, or holds links that lead out of it.
    """
    if not (path / "config.yaml").is_file():
        raise _no_run(path)
    folder = RunFolder(path.resolve())
    _refuse_links_out(folder.path)
    try:
        folder.make_subfolders()
    except OSError as error:
        raise _unwritable(path, error) from None
    return folder


def _is_unbegun(folder: Path) -> bool:
    """Return whether a folder holds nothing but what a run makes before its `config.yaml`, which comes last of it."""
    entries = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {str(path.relative_to(folder)) for path in entries}
    return folder.is_dir() and all(name in _FIRST_FILES or _TORN.fullmatch(name) for name in names)


def _refuse_links_out(folder: Path) -> None:
    """Raise RunFolderError for a link to elsewhere: a run that continues writes, cuts and deletes in its folder."""
    named = [folder / name for name in (*_SUBFOLDERS, "model", "tensorboard")]
    inner = [folder, *(path for path in named if path.is_dir() and not path.is_symlink())]
    for entry in (entry for place in inner for entry in os.scandir(place)):
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(folder):
            raise RunFolderError(
                "is a link that leads out of the run folder",
                where=entry.path,
                fix="Put what it leads to in its place, or take it away.",
            )


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


def _no_run(path: Path) -> RunFolderError:
    if _was_left(path):
        return _left(path)
    return RunFolderError(
        "not a run folder (it has no config.yaml)", where=str(path), fix="Name a folder that ml-train made."
    )


def _taken(path: Path) -> RunFolderError:
    if _was_left(path):
        return _left(path)
    if not (path / "config.yaml").is_file():
        return RunFolderError("is there already, and is no run", where=str(path), fix="Choose another --run_name.")
    return RunFolderError(
        "this run already exists",
        where=str(path),
        fix=f"Choose another --run_name, or continue it with --resume {os.path.relpath(path)}.",
    )


def _was_left(path: Path) -> bool:
    return (path / "logs").is_dir() and _is_unbegun(path)


def _left(path: Path) -> RunFolderError:
    return RunFolderError(
        "this run was ended before it had begun, or is about to begin",
        where=str(path),
        fix=f"If no process is at it, give the command that started it, with --run_name {path.name} --resume auto.",
    )


def _unwritable(
    path: Path, error: OSError, fix: str = "Choose another run.dir, or mend its permissions."
) -> RunFolderError:
    return RunFolderError(f"cannot write here ({error.strerror})", where=str(path), fix=fix)
