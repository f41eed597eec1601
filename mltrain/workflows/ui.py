"""MLflow's own server on a store: lean, on the loopback address, and gone with whoever started it."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

import psutil

from mltrain.core.errors import HardwareError, MltrainError
from mltrain.core.signal_handling import handling
from mltrain.workflows import server_guard

__all__ = ["Server", "end_on_signals", "free_port", "run_page", "serve"]

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 10.0
_POLL_S = 0.1
_PORTS = range(1, 65536)
# Settings of the environment that would make another kind of server of it.
_NOT_OURS = ("MLFLOW_ARTIFACTS_ONLY", "MLFLOW_GUNICORN_OPTS", "MLFLOW_STATIC_PREFIX")


class Server:
    """A server that answers.

    Attributes:
        address: its address, without a slash at the end.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.address = f"http://{_HOST}:{port}"
        self._process, self._port = process, port

    def page_of(self, run_ids: Sequence[str]) -> str | None:
        """Return the page of the first of these runs that the store has, or None."""
        for run_id in run_ids:
            status, body = self._get(f"/api/2.0/mlflow/runs/get?run_id={run_id}")
            if status == 200:
                experiment_id = json.loads(body)["run"]["info"]["experiment_id"]
                return self.address + run_page(experiment_id, run_id)
        return None

    def wait_until_it_answers(self) -> None:
        """Return when the server is ready.

        Raises:
            MltrainError: it ended, or says nothing for too long.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._get("/health")[0] == 200:
                    return
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise self._ended(self._process.wait(_POLL_S))
        raise MltrainError(
            f"MLflow's server does not answer after {_START_TIMEOUT_S:g} s", where=self.address, fix="Try again."
        )

    def wait(self) -> NoReturn:
        """Wait for the end of the server, which ends by a signal to this process; see `end_on_signals`.

        Raises:
            MltrainError: the server ended by itself.
        """
        raise self._ended(self._process.wait())

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def _ended(self, code: int) -> MltrainError:
        assert self._process.stdout is not None
        said = self._process.stdout.read().decode("utf-8", "replace").strip()
        return MltrainError(f"MLflow's server ended with code {code}: {said}", fix="Mend that and start it again.")


def run_page(experiment_id: str, run_id: str) -> str:
    """Return where MLflow's UI shows a run, after the server's address."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


@contextlib.contextmanager
def serve(store_uri: str, port: int) -> Iterator[Server]:
    """Run MLflow's server while the block runs, with one worker and without its job runner; yields it once it answers.

    Args:
        store_uri: absolute URI of a store that exists.
        port: see `free_port`.

    Raises:
        MltrainError: it could not start.
    """
    process = subprocess.Popen(
        [
            *(sys.executable, "-P", server_guard.__file__),
            *(sys.executable, "-P", "-m", "mlflow", "server", "--host", _HOST, "--port", str(port)),
            *("--workers", "1", "--uvicorn-opts", "--log-level warning"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(store_uri),
        start_new_session=True,  # Ctrl-C reaches this process, which then ends the server in order
    )
    try:
        server = Server(process, port)
        server.wait_until_it_answers()
        yield server
    finally:
        _end(process)


def free_port(wish: int) -> int:
    """Return the port itself if it is free, or any free one for 0.

    Raises:
        HardwareError: it is taken, refused, or no port.
    """
    if wish != 0 and wish not in _PORTS:
        raise HardwareError(f"{wish} is no port", where="--port", fix="Choose one from 1024 to 65535, or 0: any.")
    try:
        return _bind(wish)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = f"is taken{_holder(wish)}"
        else:
            what = f"cannot be used ({error.strerror})"
        raise HardwareError(
            what, where=f"port {wish}", fix=f"Use --port {_next_free(wish)}, or --port 0 for any free one."
        ) from None


@contextlib.contextmanager
def end_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit(128 + n) while the block runs; Ctrl-C is KeyboardInterrupt already."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with handling(leave, signal.SIGTERM, signal.SIGHUP):
        yield


def _environment(store_uri: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    return {
        **kept,
        "MLFLOW_BACKEND_STORE_URI": store_uri,  # not an argument: everybody may read those, and it may hold a password
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONSAFEPATH": "1",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and all its children; a signal that comes meanwhile does not keep any of them alive."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _bind(port: int) -> int:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_HOST, port))
        return int(listener.getsockname()[1])


def _next_free(port: int) -> int:
    for candidate in range(max(port + 1, 1024), _PORTS.stop):
        with contextlib.suppress(OSError):
            return _bind(candidate)
    return _bind(0)


def _holder(port: int) -> str:
    """Return who listens on a port, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()}, process {connection.pid}"
    return ""
