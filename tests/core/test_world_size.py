"""A world size other than asked for is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from mltrain.core import world_size
from mltrain.core.errors import HardwareError
from mltrain.core.hardware import process_count
from mltrain.core.world_size import ASKED

MODULE = [sys.executable, "-m", "accelerate.commands.launch"]
FILE = "{distributed_type: MULTI_CPU, num_processes: 3, use_cpu: true}"


class Ancestor:
    """A process with a command line."""

    def __init__(self, *command: str) -> None:
        self._command = list(command)

    def cmdline(self) -> list[str]:
        return self._command

    def parents(self) -> list[Ancestor]:
        return [Ancestor("bash"), self]


@pytest.fixture(autouse=True)
def _as_by_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `accelerate launch` leaves where it starts one process of several that were asked for."""
    for name in ("WORLD_SIZE", ASKED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "default")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    world_size._accelerate_wants.cache_clear()


@pytest.mark.parametrize(
    "command",
    [
        [*MODULE, "--cpu", "--num_processes", "3", "-m", "mltrain"],
        [sys.executable, "/somewhere/bin/accelerate", "launch", "--num_processes=3", "mltrain", "--config", "x"],
        ["/somewhere/bin/accelerate-launch", "--cpu", "--num_processes", "3", "mltrain"],
        [sys.executable, "/accelerate/commands/launch.py", "--cpu", "--num_processes", "3", "mltrain"],
        [*MODULE, "--config_file", "it.yaml", "-m", "mltrain"],
    ],
)
def test_one_silent_process_is_refused(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    Path("it.yaml").write_text(FILE)
    monkeypatch.setattr(psutil, "Process", lambda: Ancestor(*command))
    with pytest.raises(HardwareError, match=r"asked for 3 processes, but it has started one\. Use ml-train --num_pro"):
        process_count()


@pytest.mark.parametrize(
    "command",
    [
        [*MODULE, "--cpu", "--num_processes", "1", "-m", "mltrain"],
        [*MODULE, "--cpu", "--nonsense", "3"],
        ["bash", "run.sh"],
        ["torchrun", "--nproc-per-node", "3", "-m", "mltrain"],
    ],
)
def test_what_has_asked_for_one_process_is_not(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setattr(psutil, "Process", lambda: Ancestor(*command))
    assert process_count() == 1


@pytest.mark.parametrize("missing", ["ACCELERATE_DYNAMO_MODE", "MASTER_ADDR"])
def test_without_a_launcher_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.delenv(missing)
    monkeypatch.setattr(psutil, "Process", lambda: pytest.fail("it was looked up"))
    assert process_count() == 1


@pytest.mark.parametrize(("asked", "there"), [("2", None), ("2", "1"), ("2", "3")])
def test_our_own_launcher_is_kept_to_its_word(monkeypatch: pytest.MonkeyPatch, asked: str, there: str | None) -> None:
    monkeypatch.setenv(ASKED, asked)
    if there is not None:
        monkeypatch.setenv("WORLD_SIZE", there)
    with pytest.raises(HardwareError, match=f"{asked} processes were asked for, but {there or 1} run"):
        process_count()
    monkeypatch.setenv("WORLD_SIZE", asked)
    assert process_count() == int(asked)
