"""`mltrain ui` where it starts no server: addresses, ports, mistakes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mltrain.cli.main import main
from mltrain.core.errors import HardwareError
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.mlflow_address import write_address
from mltrain.workflows.ui import free_port


def make_run(uri: str) -> Path:
    folder = Path("runs/it")
    (folder / "tracking").mkdir(parents=True)
    (folder / "config.yaml").write_text("task: t\n")
    write_address(RunFolder(folder), uri=uri, experiment_id="7", run_id="abc")
    return folder


def test_of_a_store_on_a_server_the_address_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", str(make_run("http://localhost:5000/"))]) == 0
    address = "http://localhost:5000/#/experiments/7/runs/abc?workflowType=machine_learning\n"
    assert capsys.readouterr().out == address
    assert main(["ui", "--tracking_uri", "https://me:secret@host"]) == 0
    assert capsys.readouterr().out == "https://me:***@host\n"


def test_no_store_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["ui"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no MLflow store here yet" in line
    assert list(Path().iterdir()) == []


def test_a_taken_port_is_told_with_its_holder_and_another_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(
            HardwareError, match=rf"port {port}: is taken by .*process {os.getpid()}\. Use --port \d+"
        ) as raised:
            free_port(port)
    suggested = int(str(raised.value).split("--port ")[1].split(",")[0])
    assert suggested != port
    assert free_port(suggested) == suggested


def test_port_0_is_any_free_one() -> None:
    assert free_port(0) > 0


@pytest.mark.parametrize("port", [-1, 70000])
def test_no_port_is_refused(port: int) -> None:
    with pytest.raises(HardwareError, match=f"--port: {port} is no port"):
        free_port(port)
