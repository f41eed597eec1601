"""Commands in processes of their own that need not import torch first: they are forked from a server that has."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["run_here", "run_warm", "warm_context"]

_COMMANDS = ("mltrain", "ml-split", "ml-train")
_SLOW_TO_IMPORT = ["mltrain.workflows.train", "mltrain.tasks.image_classification", "sklearn.metrics", "pandas"]
_SLOW_TO_IMPORT += ["matplotlib.figure", "matplotlib.backends.backend_agg", "rich.table", "rich.console"]
_SLOW_TO_IMPORT += ["torch._inductor"]  # which torch imports to be deterministic: three seconds
_TIMEOUT_S = 240


def warm_context() -> Any:
    """Return what makes processes that have imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_SLOW_TO_IMPORT)
    return context


def run_warm(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of mltrain, or `python -c PROGRAM`, in a folder and return how it ended, with its errors."""
    context = warm_context()
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8") as errors:
        process = context.Process(target=run_here, args=(command, folder, errors.name))
        process.start()
        process.join(_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, _TIMEOUT_S)
        return subprocess.CompletedProcess(command, process.exitcode, stderr=Path(errors.name).read_text("utf-8"))


def run_here(command: list[str], folder: Path, errors: str) -> None:
    """Become such a command, in a process that was made for it; its errors are appended to a file."""
    # What a new process has: loader workers would be forked from the server too.
    multiprocessing.set_start_method("fork" if sys.platform == "linux" else "spawn", force=True)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    os.environ["MLFLOW_TRACKING_URI"] = ""
    if command[0] in _COMMANDS:
        from mltrain.cli.main import main

        sys.argv = command
        sys.exit(main())
    sys.path.insert(0, "")
    exec(compile(command[2], "<program>", "exec"), {"__name__": "__main__"})
