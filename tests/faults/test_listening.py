"""Nothing of mltrain listens to other machines, and a server ends with the command that started it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import ROOT

from mltrain.core.network import choose_interface

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that descend from it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def listening(processes: list[psutil.Process]) -> dict[str, set[tuple[str, int]]]:
    """Return the addresses that processes listen on, by what the process is."""
    found: dict[str, set[tuple[str, int]]] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            sockets = process.net_connections(kind="tcp")
            heard = {tuple(entry.laddr) for entry in sockets if entry.status == psutil.CONN_LISTEN}
            found.setdefault(" ".join(process.cmdline()), set()).update(heard)
    return found


def until(condition: Callable[[], Any], what: str) -> Any:
    """Return what the condition gives as soon as it holds."""
    end = time.monotonic() + 120
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the block runs; all its processes are gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    members: list[psutil.Process] = []
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            members = family(process.pid)
        process.kill()
        for member in members:  # a launcher's processes lead sessions of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(members, timeout=20)
        process.communicate()


@pytest.fixture(scope="module")
def trained(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What a run with loader workers and MLflow listened on while it trained, and the folder with its store."""
    folder = tmp_path_factory.mktemp("trained")
    config = {**vectors, "data": {"num_workers": 2}, "training": {"num_epochs": 9999, "batch_size": 8}}
    config |= {"tracking": {"mlflow": {"enabled": True}}, "checkpointing": {"every_n_epochs": 1000, "monitor": None}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    address = folder / "runs" / "it" / "tracking" / "mlflow.json"
    with started(["-m", "mltrain", "--config", "config.yaml", "--run_name", "it"], folder) as process:
        until(lambda: address.exists() and len(family(process.pid)) >= 4, "no workers, or no follower")
        return folder, listening(family(process.pid))


@pytest.mark.slow
def test_a_run_with_workers_and_mlflow_listens_to_nobody(trained: tuple[Path, dict[str, Any]]) -> None:
    _, found = trained
    assert any("mltrain.tracking.follower" in command for command in found)
    assert all(address in LOOPBACK for sockets in found.values() for address, _ in sockets), found


@pytest.mark.slow
def test_the_ui_listens_on_loopback_and_a_kill_takes_its_server_along(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = trained
    with started(["-m", "mltrain", "ui", "--port", "0"], folder) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rpartition(":")[2])
        members = family(process.pid)
        assert {one for found in listening(members).values() for one in found} == {("127.0.0.1", port)}
        process.kill()
        _, alive = psutil.wait_procs(members[1:], timeout=60)
        assert not alive
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass


@pytest.mark.slow
def test_two_processes_of_one_machine_listen_on_loopback(vectors: dict[str, Any], tmp_path: Path) -> None:
    """All but the launcher's own store, which torch opens on every interface: see docs/resuming.md."""
    config = {**vectors, "training": {"num_epochs": 9999, "batch_size": 4, "trainer_type": "accelerate"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "no"]
    metrics = tmp_path / "runs" / "it" / "metrics.jsonl"
    command = [*launch, "--main_process_port", "29617", "-m", "mltrain", "--config", "config.yaml", "--run_name", "it"]
    with started(command, tmp_path) as process:
        until(lambda: metrics.exists() and metrics.stat().st_size > 0, "the run did not start to train")
        launcher, *workers = family(process.pid)
        ranks = listening([worker for worker in workers if "-m mltrain" in " ".join(worker.cmdline())])
        assert ranks
        assert any(ranks.values())
        assert all(address in LOOPBACK for sockets in ranks.values() for address, _ in sockets), ranks
        others = {port for found in listening([launcher, *workers]).values() for a, port in found if a not in LOOPBACK}
        assert others <= {29617}


@pytest.mark.parametrize(
    ("local", "world", "given", "expected"),
    [("2", "2", None, "lo"), ("2", "4", None, None), (None, None, None, None), ("2", "2", "eth0", "eth0")],
)
def test_one_machine_is_known_from_the_launcher(
    monkeypatch: pytest.MonkeyPatch, local: str | None, world: str | None, given: str | None, expected: str | None
) -> None:
    values = {"LOCAL_WORLD_SIZE": local, "WORLD_SIZE": world, "GLOO_SOCKET_IFNAME": given, "NCCL_SOCKET_IFNAME": given}
    environment = {name: value for name, value in values.items() if value is not None}
    monkeypatch.setattr(os, "environ", environment)
    choose_interface()
    assert environment.get("GLOO_SOCKET_IFNAME") == environment.get("NCCL_SOCKET_IFNAME") == expected
