"""What the run folders below a folder say of their runs, read without torch; a damaged one is a row like any other."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mltrain.core.errors import RunFolderError, one_line
from mltrain.core.run_folder import RunFolder

__all__ = ["SORTS", "STATUSES", "RunRow", "Score", "list_runs", "run_status"]

STATUSES = ("completed", "early_stopped", "interrupted", "failed", "killed", "running", "damaged")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
_HEADLINE = "accuracy"
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Score:
    """A metric's value; `epoch` counts from 1 and is None where the value belongs to no epoch."""

    metric: str
    value: float
    less_is_better: bool
    epoch: int | None = None

    @property
    def rank(self) -> tuple[str, float]:
        """Sorts scores of one metric together, the best first."""
        return self.metric, self.value if self.less_is_better else -self.value


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        path: its folder.
        status: one of `STATUSES`.
        reason: why it ended so, or what is damaged.
        trainer: the trainer's name.
        epochs, num_epochs: done and planned.
        best: the value that chose its weights.
        test: the accuracy on the test split, or else the metric of `best`.
        started: when it began, seconds since 1970.
        privacy: `epsilon` and `delta` of its claim, or that it is `void`; `at_most`: the epsilon is that of the steps
            which a run that did not end might have come to. None: it makes no claim.
    """

    path: Path
    status: str
    reason: str = ""
    trainer: str | None = None
    epochs: int | None = None
    num_epochs: int | None = None
    best: Score | None = None
    test: Score | None = None
    started: float | None = None
    privacy: Mapping[str, Any] | None = None


# Each key puts runs without such a value last.
SORTS: dict[str, Callable[[RunRow], Any]] = {
    "age": lambda row: -(row.started or 0.0),
    "best": lambda row: (row.best is None, row.best.rank if row.best else ()),
    "test": lambda row: (row.test is None, row.test.rank if row.test else ()),
}


def list_runs(folder: Path, *, sort: str = "age", status: str | None = None, limit: int | None = None) -> list[RunRow]:
    """Return the runs of a folder, or the one run that the folder is.

    Args:
        folder: a folder of run folders; what is no run in it is passed over.
        sort: "age", the newest first; "best" or "test", the best first, runs of one metric together.
        status: only runs of this status.
        limit: at most so many.

    Raises:
        RunFolderError: no such folder.
    """
    if not folder.is_dir():
        raise RunFolderError("no such folder", where=str(folder), fix="Name the folder of your runs, or train first.")
    paths = [folder.absolute()] if _is_run(folder) else [path for path in sorted(folder.iterdir()) if _is_run(path)]
    rows = sorted((_row(RunFolder(path)) for path in paths), key=SORTS[sort])
    return [row for row in rows if status in (None, row.status)][:limit]


def run_status(folder: RunFolder, summary: Mapping[str, Any]) -> str:
    """Return how a run ended, or that it has not: `killed` where it says running but nobody writes into its folder."""
    status = str(summary.get("status") or "running")
    if status != "running":
        return status
    return "running" if _is_held(folder) else "killed"


def _is_run(path: Path) -> bool:
    folder = RunFolder(path)
    return any(file.exists() for file in (folder.config, folder.metadata, folder.summary, folder.metrics))


def _row(folder: RunFolder) -> RunRow:
    try:
        return _read_row(folder)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        if not folder.config.exists() and _is_held(folder):
            return RunRow(folder.path, "running", started=_changed(folder.path))  # it is about to write its files
        return RunRow(folder.path, "damaged", reason=_damage(error), started=_changed(folder.path))


def _damage(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return one_line(error)


def _read_row(folder: RunFolder) -> RunRow:
    config = _config(folder.config)
    summary = _json(folder.summary) if folder.summary.exists() else {}
    status = run_status(folder, summary)
    unfinished = status in ("running", "killed")
    best = _best_score(summary.get("best"), (config.get("checkpointing") or {}).get("mode"))
    return RunRow(
        folder.path,
        status,
        reason="" if unfinished else str(summary.get("reason") or ""),
        trainer=str(config["training"]["trainer_type"]),
        epochs=_epochs_logged(folder.metrics) if unfinished else int(summary["epochs"]),
        num_epochs=int(config["training"]["num_epochs"]),
        best=best,
        test=_test_score(summary.get("test") or {}, best),
        started=_started(folder),
        privacy=_claim(summary.get("privacy") or _statement(folder)),
    )


def _claim(privacy: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not privacy:
        return None
    epsilon = privacy["epsilon"]
    return {
        "epsilon": None if epsilon is None else float(epsilon),
        "delta": float(privacy["delta"]),
        "void": bool(privacy["void"]),
        "at_most": privacy.get("state") == "under way",
    }


def _statement(folder: RunFolder) -> dict[str, Any] | None:
    """Return the statement of privacy of a run whose summary has none yet."""
    path = folder.reports / "privacy.json"
    return _json(path) if path.exists() else None


def _best_score(best: Mapping[str, Any] | None, mode: str | None) -> Score | None:
    if not best:
        return None
    metric = str(best["metric"])
    # The configuration leaves the mode open where the task knows it.
    less_is_better = mode == "min" if mode else metric.endswith("loss")
    return Score(metric, float(best["value"]), less_is_better, int(best["epoch"]))


def _test_score(values: Mapping[str, Any], best: Score | None) -> Score | None:
    candidates = {_HEADLINE: False}
    if best is not None:
        candidates.setdefault(best.metric.rpartition("/")[2], best.less_is_better)
    for name, less_is_better in candidates.items():
        if isinstance(values.get(name), int | float):
            return Score(name, float(values[name]), less_is_better)
    return None


def _epochs_logged(metrics: Path) -> int:
    """Return how many epochs a run has ended, by the last lines of its metrics file."""
    if not metrics.exists():
        return 0
    with metrics.open("rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
        lines = stream.read().split(b"\n")[:-1]  # what follows the last line break is torn
    for line in reversed(lines):
        if b'"train/loss"' in line:
            return int(json.loads(line)["epoch"]) + 1
    return int(json.loads(lines[-1])["epoch"]) if lines else 0


def _started(folder: RunFolder) -> float | None:
    created = _json(folder.metadata).get("created") if folder.metadata.exists() else None
    return datetime.datetime.fromisoformat(created).timestamp() if created else _changed(folder.config)


def _config(path: Path) -> dict[str, Any]:
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (ValueError, yaml.YAMLError):
        value = None
    return _mapping(value, path)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        value = None
    return _mapping(value, path)


def _mapping(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} cannot be read")
    return value


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _is_held(folder: RunFolder) -> bool:
    """Return whether a process writes into the folder. A shared lock tells it, and makes no file."""
    try:
        with (folder.path / ".lock").open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:  # no lock file, or none that may be read
        return False
