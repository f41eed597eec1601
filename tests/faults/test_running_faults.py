"""Faults of a run that goes on, in real processes: folders, signals, memory, loader processes, other ranks, ports."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from faults import check, check_text
from runs import history
from warm_commands import WarmCommand, need_mounts, ranks, read_only, wait_until

from mltrain.core.errors import RunFolderError
from mltrain.core.files import read_json
from mltrain.workflows.train import train

CONFIG = f"""task: acting_vectors
plugins: [{ROOT}/tests/support/acting_task.py]
data: {{num_workers: 0}}
model: {{}}
training: {{num_epochs: 3, batch_size: 8}}
callbacks: {{acting: {{}}}}
tracking: {{log_every_n_steps: 2, mlflow: {{enabled: false}}}}
reproducibility: {{num_threads: 1}}
"""
WORDS = ["mltrain", "--config", "it.yaml", "--run_name", "it"]
RANKS = ["--trainer", "accelerate", "training.collective_timeout_s=60"]


def environment(*acts: dict[str, Any]) -> dict[str, str]:
    return {"ACT": json.dumps(acts)}


def act(place: str, at: Any, *do: str, rank: int = 0) -> dict[str, Any]:
    return {"place": place, "at": at, "rank": rank, "do": do}


@pytest.fixture(autouse=True)
def _config(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run that nothing happens to."""
    overrides = {"run.dir": str(tmp_path_factory.mktemp("straight"))}
    return train(yaml.safe_load(CONFIG), overrides, verbose=False)


def continued(folder: Path, straight: Any, **overrides: Any) -> None:
    """Continue a run to its end and assert that it is the straight one to the bit."""
    resumed = train(None, overrides, resume=folder, verbose=False)
    assert resumed.summary["status"] == "completed"
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


# ---- 36: folders ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[tuple[list[list[str]], str]]:
    """Yield the mounts that keep a command from writing into a folder, and the reason that it will meet."""
    if os.geteuid() == 0:  # whom permissions do not stop
        need_mounts()
        yield read_only(folder), os.strerror(errno.EROFS)
        return
    folder.chmod(0o555)
    try:
        yield [], os.strerror(errno.EACCES)
    finally:
        folder.chmod(0o755)


def test_fault_36_a_read_only_folder_of_runs_is_told_before_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with unwritable(tmp_path / "runs") as (mounts, reason):
        for words in (WORDS, WORDS[:3]):
            reads = environment(act("data", None, "SIGKILL"))
            check(36, WarmCommand(words, tmp_path, reads, mounts).end(), "read-only", reason=reason)
    assert list((tmp_path / "runs").iterdir()) == []


def test_fault_36_a_run_in_a_read_only_folder_is_not_resumed(tmp_path: Path, straight: Any) -> None:
    WarmCommand(WORDS, tmp_path, environment(act("on_step_end", 9, "SIGTERM"))).end()
    run = tmp_path / "runs" / "it"
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    with unwritable(run) as (mounts, reason):
        words = ["mltrain", "--resume", "runs/it"]
        reads = environment(act("data", None, "SIGKILL"))
        check(36, WarmCommand(words, tmp_path, reads, mounts).end(), "read-only run", run=run, reason=reason)
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()} == before
    continued(run, straight)


def test_fault_36_a_run_that_goes_on_is_not_resumed_and_one_that_was_killed_is(tmp_path: Path, straight: Any) -> None:
    first, run = WarmCommand(WORDS, tmp_path, environment(act("on_step_end", 9, "wait"))), tmp_path / "runs" / "it"
    try:
        wait_until((tmp_path / "waiting").exists, "the first run did not come to its ninth step")
        reads = environment(act("data", None, "SIGKILL"))
        second = WarmCommand(["mltrain", "--resume", "runs/it"], tmp_path, reads).end()
        check(36, second, "live", run=run)
        with pytest.raises(RunFolderError, match="another process is writing"):
            train(None, resume=run, verbose=False)
        assert first.is_alive
    finally:
        first.kill()
    continued(run, straight)


# ---- 37: signals ---------------------------------------------------------------------------------------------------

MOMENTS = {
    "in training": act("on_step_end", 9, "SIGTERM"),
    "at the first step": act("on_step_start", 0, "SIGTERM"),
    "in validation": act("load", "val/10", "SIGTERM"),
    "between epochs": act("on_epoch_end", 14, "SIGTERM"),
    "while saving": act("fsync", "model.safetensors", "SIGTERM"),
    "after the last epoch": act("on_fit_end", 21, "SIGTERM"),
    "in the final evaluation": act("load", "test/10", "SIGTERM"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_37_sigterm_saves_and_the_run_continues_to_the_same_bits(
    moment: str, tmp_path: Path, straight: Any
) -> None:
    run = tmp_path / "runs" / "it"
    check(37, WarmCommand(WORDS, tmp_path, environment(MOMENTS[moment])).end(), "SIGTERM", run=run)
    assert read_json(run / "summary.json")["status"] == "interrupted"
    continued(run, straight)


def test_fault_37_an_interrupt_of_the_whole_group_leaves_loader_processes_to_their_work(
    tmp_path: Path, straight: Any
) -> None:
    acts, run = environment(act("on_step_end", 9, "interrupt group")), tmp_path / "runs" / "it"
    check(37, WarmCommand([*WORDS, "--num_workers", "2"], tmp_path, acts).end(), "SIGINT", run=run)
    summary = read_json(run / "summary.json")
    assert (summary["status"], summary["steps"]) == ("interrupted", 9)
    continued(run, straight)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_fault_37_a_signal_before_training_ends_the_command_at_once(number: str, code: int, tmp_path: Path) -> None:
    result = WarmCommand(WORDS, tmp_path, environment(act("data", None, number))).end()
    assert result.returncode == code
    check_text(37, result.stderr, "data")
    assert not (tmp_path / "runs").exists()


SECOND = {
    "in a step": [act("on_step_start", 9, "SIGTERM", "pause", "SIGTERM", "wait")],
    "in a save that hangs": [
        act("on_step_end", 5, "SIGTERM"),
        act("fsync", "state.json", "pause", "SIGTERM", "wait"),
    ],
}


@pytest.mark.parametrize("moment", SECOND)
def test_fault_37_a_second_signal_leaves_at_once(moment: str, tmp_path: Path, straight: Any) -> None:
    check(37, WarmCommand(WORDS, tmp_path, environment(*SECOND[moment])).end(), "second")
    run = tmp_path / "runs" / "it"
    assert read_json(run / "summary.json")["status"] == "running", "it was left, not ended"
    continued(run, straight)


@pytest.mark.parametrize("place", [("on_step_end", 5), ("load", "val/12"), ("on_fit_end", 12)], ids=lambda at: at[0])
def test_fault_37_sigterm_to_one_of_two_processes_stops_both(place: tuple[str, Any], tmp_path: Path) -> None:
    acts, run = environment(act(*place, "SIGTERM", rank=1)), tmp_path / "runs" / "it"
    first, second = (command.end() for command in ranks([*WORDS, *RANKS], tmp_path, acts))
    check(37, first, "rank", run=run)
    assert second.returncode == 143
    assert read_json(run / "summary.json")["status"] == "interrupted"
    again = [command.end() for command in ranks(["mltrain", "--resume", "runs/it"], tmp_path, {})]
    assert [command.returncode for command in again] == [0, 0]


def test_fault_37_the_end_of_max_time_is_met_like_a_signal(tmp_path: Path, straight: Any) -> None:
    acts = environment(act("on_step_end", 9, "wait for the wish to stop"))
    words, run = [*WORDS, "training.max_time=00:00:03"], tmp_path / "runs" / "it"
    check(37, WarmCommand(words, tmp_path, acts).end(), "max_time", time="3s", run=run)
    summary = read_json(run / "summary.json")
    assert summary["status"] == "interrupted"
    continued(run, straight, **{"training.max_time": None})


# ---- 31: a kill at an exact place (tests/faults/test_kills.py has those at random moments) -----------------------


@pytest.mark.parametrize("file", ["model.safetensors", "state.json"])
def test_fault_31_a_kill_in_the_middle_of_a_save(tmp_path: Path, straight: Any, file: str) -> None:
    acts, run = environment(act("fsync", file, "SIGKILL")), tmp_path / "runs" / "it"
    assert WarmCommand(WORDS, tmp_path, acts).end().returncode == -signal.SIGKILL
    (left,) = (run / "checkpoints").iterdir()
    assert left.name.startswith(".tmp-step-00000007-")
    continued(run, straight)
    assert not list((run / "checkpoints").glob(".tmp-*"))


# ---- 38: memory ----------------------------------------------------------------------------------------------------


def test_fault_38_memory_for_not_even_one_example(tmp_path: Path, straight: Any) -> None:
    acts = environment(act("on_step_start", 9, "limit memory"))
    check(38, WarmCommand(WORDS, tmp_path, acts).end(), "memory", config="it.yaml")
    assert read_json(tmp_path / "runs" / "it" / "summary.json")["status"] == "failed"
    continued(tmp_path / "runs" / "it", straight)


def test_fault_38_a_killed_loader_process(tmp_path: Path, straight: Any) -> None:
    acts = environment(act("on_step_end", 9, "kill worker"))
    result = WarmCommand([*WORDS, "--num_workers", "2"], tmp_path, acts).end()
    check(38, result, "worker")
    continued(tmp_path / "runs" / "it", straight)


SMALL = [["-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"]]
LARGE_BATCHES = ["data.train_size=8000", "--batch_size", "4000", "--num_epochs", "1", "--num_workers", "2"]


@pytest.mark.slow
def test_fault_38_a_small_shared_memory_takes_fewer_loader_processes(tmp_path: Path) -> None:
    need_mounts()
    result = WarmCommand([*WORDS, *LARGE_BATCHES], tmp_path, mounts=SMALL).end()
    check(38, result, "small shared memory", size="0.2")
    free = train(
        str(tmp_path / "it.yaml"), {"data.train_size": 8000, "training": {"batch_size": 4000, "num_epochs": 1}}
    )
    assert read_json(tmp_path / "runs" / "it" / "summary.json")["model_digest"] == free.summary["model_digest"]


@pytest.mark.slow
def test_fault_38_a_shared_memory_that_fills_up(tmp_path: Path, straight: Any) -> None:
    need_mounts()
    acts = environment(act("on_step_end", 9, "fill shared memory"))
    result = WarmCommand([*WORDS, "--num_workers", "2"], tmp_path, acts, SMALL).end()
    check(38, result, "full shared memory")
    continued(tmp_path / "runs" / "it", straight)


# ---- 39: ports and processes ---------------------------------------------------------------------------------------


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_fault_39_a_taken_port_of_the_ui(tmp_path: Path, taken_port: int) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        store.executescript("CREATE TABLE experiments (a); CREATE TABLE runs (a);")
    result = WarmCommand(["mltrain", "ui", "--port", str(taken_port)], tmp_path).end()
    program = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    check(39, result, "ui", port=taken_port, program=program, pid=os.getpid())


@pytest.mark.slow
def test_fault_39_a_taken_port_of_the_launcher(tmp_path: Path, taken_port: int) -> None:
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--mixed_precision", "no"]
    result = subprocess.run(
        [sys.executable, *launcher, "--main_process_port", str(taken_port), "-m", *WORDS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 1
    assert f"`{taken_port}`" in result.stderr
    assert "--main_process_port" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_fault_39_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    acts, run = environment(act("on_step_end", 6, "SIGKILL", rank=1)), tmp_path / "runs" / "it"
    first, second = ranks([*WORDS, *RANKS], tmp_path, acts)
    check(39, first.end(), "died", pid=second.pid, host=platform.node(), run=run)
    assert second.end().returncode == -signal.SIGKILL
    assert read_json(run / "summary.json")["status"] == "failed"
    again = [command.end() for command in ranks(["mltrain", "--resume", str(run)], tmp_path, {})]
    assert [command.returncode for command in again] == [0, 0]
    assert "Continuing from" in again[0].stderr


@pytest.mark.slow
@pytest.mark.parametrize(("case", "deed"), [("hangs", "wait"), ("stopped", "SIGSTOP")])
def test_fault_39_a_process_that_hangs_ends_the_others(case: str, deed: str, tmp_path: Path) -> None:
    config = CONFIG.replace("batch_size: 8", "batch_size: 8, trainer_type: accelerate, collective_timeout_s: 2")
    (tmp_path / "it.yaml").write_text(config)
    first, second = ranks(WORDS, tmp_path, environment(act("on_step_end", 6, deed, rank=1)))
    run = tmp_path / "runs" / "it"
    try:
        check(39, first.end(), case, config="it.yaml", pid=second.pid, host=platform.node(), run=run)
    finally:
        second.kill()
    again = [command.end() for command in ranks(["mltrain", "--resume", str(run), RANKS[-1]], tmp_path, {})]
    assert [command.returncode for command in again] == [0, 0]
    assert "Continuing from" in again[0].stderr


def test_fault_39_an_error_of_one_process_is_told_by_the_first(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(CONFIG.replace("acting", "losing"))
    acts, run = environment(act("on_step_end", 6, "fail", rank=1)), tmp_path / "runs" / "it"
    first, second = ranks([*WORDS, *RANKS], tmp_path, acts)
    check(39, first.end(), "failed", pid=second.pid, host=platform.node(), run=run)
    ended = second.end()
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "ValueError: the test says so" in (run / "logs" / "rank_1.log").read_text()
