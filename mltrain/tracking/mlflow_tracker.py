"""MLflow, without MLflow in the training process: another process follows the run folder and feeds the store.

MLflow takes seconds to import and to make a store, and holds the interpreter while it writes. The follower pays for
that, sees how the training process ends even if it is killed, and may be late: the run folder waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.base import Tracker, register_tracker
from mltrain.tracking.mlflow_address import masked, sqlite_path, store_uri

__all__ = ["MLflowTracker"]

_FINISH_TIMEOUT_S = 60.0


@register_tracker("mlflow")
class MLflowTracker(Tracker):
    """Shows the run in MLflow.

    Settings:
        tracking_uri: the store. None: see `store_uri`.
        experiment: its experiment. None: the data set's name.
        finish_timeout_s: how long `close` waits for the store to have everything.
    """

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self.uri = store_uri(folder, settings.get("tracking_uri"))
        self._timeout_s = float(settings.get("finish_timeout_s", _FINISH_TIMEOUT_S))
        self._log_file = folder.tracking / "mlflow.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._earlier_summary: tuple[int, int] | None = None

    def open(self) -> None:
        """Start the follower; costs the start of a process and waits for nothing."""
        self._earlier_summary = _stamp(self.folder.summary)
        settings = {
            "tracking_uri": self.uri,
            "experiment": self.settings.get("experiment"),
            "finish_timeout_s": self._timeout_s,
            "trainer_pid": os.getpid(),
        }
        try:
            self.folder.tracking.mkdir(exist_ok=True)
            with self._log_file.open("ab") as output:
                self._process = subprocess.Popen(
                    # -P: a file of the user's in the working folder must not stand in for a module.
                    [sys.executable, "-P", "-m", "mltrain.tracking.mlflow_follower", str(self.folder.path)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is for the training process alone
                )
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        except OSError as error:
            log.warning("MLflow is not fed: %s. Every value is in %s.", error, self.folder.metrics)

    def close(self) -> None:
        """Say that the run has ended and wait, for the time set, until the store has everything."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        # A summary that was there before is an earlier segment's: this one failed before it wrote its own.
        ended = _stamp(self.folder.summary) not in (None, self._earlier_summary)
        with contextlib.suppress(OSError):  # if it is gone, its exit code tells
            process.stdin.write(b"ended\n" if ended else b"failed\n")
        process.stdin.close()
        try:
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            log.warning(
                "MLflow has not taken everything within %g s; it goes on in the background (see %s). "
                "Every value is in %s.",
                self._timeout_s,
                self._log_file,
                self.folder.metrics,
            )
            return
        if code != 0:
            reason = _last_line(self._log_file).rpartition(" ERROR ")[2] or f"exit code {code}"
            log.warning("MLflow has not taken everything: %s. Every value is in %s.", reason, self.folder.metrics)

    def describe(self) -> str:
        """Return the command that shows the store, started lean, or the server's address."""
        if sqlite_path(self.uri) is None:
            return f"MLflow: {masked(self.uri)}"
        lean = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1"
        return f"MLflow: {lean} --backend-store-uri {shlex.quote(self.uri)}"


def _environment() -> dict[str, str]:
    """Return the follower's environment: ours, and the way to this package where it is not installed."""
    root = Path(__file__).resolve().parents[2]
    if root.name in ("site-packages", "dist-packages"):
        return dict(os.environ)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
