"""Stands between `mltrain ui` and MLflow's server, which ends with whoever started it, however that one ends.

    python server_guard.py COMMAND...

The caller holds a pipe to the standard input. When it closes, because the caller wishes so or was killed, the server
and all its children end. A server that ends by itself has its last line printed, and its exit code returned. Run as a
file of its own: it imports nothing of this package, and starts at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

__all__ = ["main"]

_LOOK_EVERY_S = 0.2
_STOP_TIMEOUT_S = 5.0


def main() -> int:
    """Run the command until it ends or the caller is gone; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # In a folder of its own the server finds no module of the user's and leaves no file with them.
    with tempfile.TemporaryDirectory(prefix="mltrain-ui-") as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                sys.argv[1:], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder
            )
        try:
            while server.poll() is None and not _is_closed(sys.stdin.fileno()):
                pass
            ended_by_itself = server.returncode is not None
        finally:
            _end_all()
        code = server.wait()
        if ended_by_itself:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
            sys.stdout.write(f"{last}\n")
        return code


def _is_closed(descriptor: int) -> bool:
    """Wait a moment; return whether the other end of the pipe is closed."""
    readable, _, _ = select.select([descriptor], [], [], _LOOK_EVERY_S)
    return bool(readable) and not os.read(descriptor, 64)


def _end_all() -> None:
    """End the other processes of this session, which this one leads; the server's end does not hide its children."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and os.getsid(process.pid) == os.getsid(0):
                members.append(process)
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(members, timeout=_STOP_TIMEOUT_S)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


if __name__ == "__main__":
    sys.exit(main())
