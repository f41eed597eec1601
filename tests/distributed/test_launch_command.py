"""`ml-train --num_processes 2`: two ranks equal one process; what is interrupted or dies continues to the same bits."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import VECTORS_PLUGIN
from runs import largest_difference, weights
from warm_commands import WarmCommand, wait_until

from mltrain.core.files import read_json

pytestmark = pytest.mark.slow

ACTING = """
import os
import signal
import time

from mltrain.callbacks.base import Callback, register_callback


@register_callback("acting")
class Acting(Callback):
    def __init__(self, step: int, what: str, rank: int) -> None:
        self.step, self.what, self.mine = step, what, os.environ["RANK"] == str(rank)

    def on_step_end(self, loop):
        if loop.position.step != self.step or os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
            return
        if self.what == "die" and self.mine:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what == "wait":
            open("waits_" + os.environ["RANK"], "w").write(str(os.getpid()))
            while True:
                time.sleep(1)
        elif self.what != "die" and self.mine:
            os.kill(os.getppid(), getattr(signal, self.what))
"""
STEP = 10  # in the middle of the second of three epochs of seven steps


def command(vectors: dict[str, Any], folder: Path, name: str, *flags: str, **acting: Any) -> WarmCommand:
    """Start the command in two processes."""
    (folder / "acting.py").write_text(ACTING)
    callbacks = {"acting": {"step": STEP, "rank": 1, **acting}} if acting else {}
    config = {**vectors, "plugins": [str(VECTORS_PLUGIN), "acting.py"], "callbacks": callbacks}
    config["training"] = {"num_epochs": 3, "batch_size": 4, "trainer_type": "accelerate"}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    words = ["ml-train", "--config", f"{name}.yaml", "--num_processes", "2", "--run_name", name]
    return WarmCommand([*words, *flags], folder)


def resumed(folder: Path, name: str) -> str:
    """Continue a run in two processes and return the digest it ends with."""
    words = ["ml-train", "--resume", f"runs/{name}", "--num_processes", "2", "callbacks.acting.step=99"]
    end = WarmCommand(words, folder).end()
    assert end.returncode == 0, end.stderr[-2000:]
    return digest(folder, name)


def digest(folder: Path, name: str) -> str:
    summary = read_json(folder / "runs" / name / "summary.json")
    assert (summary["status"], summary["steps"], summary["num_processes"]) == ("completed", 21, 2)
    return str(summary["model_digest"])


def told(end: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in end.stderr
    return [line for line in end.stderr.splitlines() if line.startswith("error:")]


@pytest.fixture(scope="module")
def straight(vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    end = command(vectors, folder, "two").end()
    assert (end.returncode, told(end)) == (0, []), end.stderr[-2000:]
    return folder / "runs" / "two"


def test_two_processes_equal_one(straight: Path, vectors: dict[str, Any], train_vectors: Any) -> None:
    one = train_vectors({"run.name": "one"})
    assert digest(straight.parent.parent, "two")
    assert largest_difference(weights(one.folder), weights(straight)) < 1e-6
    words = read_json(straight / "metadata.json")["command_line"]
    assert words.endswith("mltrain train --config=two.yaml --num_processes=2 --run_name=two")


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_the_run_continues(
    straight: Path, vectors: dict[str, Any], tmp_path: Path, number: str, code: int
) -> None:
    end = command(vectors, tmp_path, "it", "--max_restarts", "2", what=number).end()
    assert (end.returncode, told(end)) == (code, [])
    assert f"Interrupted: received {number}" in end.stderr
    assert read_json(tmp_path / "runs" / "it" / "summary.json")["status"] == "interrupted"
    assert resumed(tmp_path, "it") == digest(straight.parent.parent, "two")


def test_a_rank_that_is_killed_is_named(straight: Path, vectors: dict[str, Any], tmp_path: Path) -> None:
    end = command(vectors, tmp_path, "it", what="die").end()
    assert end.returncode == 75
    assert len(told(end)) == 1
    assert "rank 1 (process" in end.stderr
    assert told(end)[-1].startswith("error: rank 1 was killed by SIGKILL")
    assert f"Continue with --resume {tmp_path}/runs/it, or let --max_restarts N do so." in told(end)[-1]
    assert resumed(tmp_path, "it") == digest(straight.parent.parent, "two")


def test_a_rank_that_is_killed_starts_again_by_itself(straight: Path, vectors: dict[str, Any], tmp_path: Path) -> None:
    """The name was given by hand: the second attempt continues this run instead of refusing it."""
    end = command(vectors, tmp_path, "it", "--max_restarts", "1", what="die").end()
    assert end.returncode == 0, end.stderr[-2000:]
    assert end.stderr.count("Restart 1 of 1: rank 1 was killed by SIGKILL") == 1
    assert digest(tmp_path, "it") == digest(straight.parent.parent, "two")
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["it"]


def test_a_mistake_is_told_once_and_not_tried_again(vectors: dict[str, Any], tmp_path: Path) -> None:
    end = command(vectors, tmp_path, "it", "--max_restarts", "3", "--trainer", "standard").end()
    assert end.returncode == 2
    *before, error = end.stderr.splitlines()
    assert "standard trains in one process, but 2 were launched" in error
    assert all(line.endswith("Starting with it.yaml: loading libraries in 2 processes.") for line in before)
    assert len(before) <= 1


def test_accelerates_silent_single_process_is_an_error(vectors: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(yaml.safe_dump(vectors))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    end = subprocess.run(
        [*launch, "-m", "mltrain", "--config", "it.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert end.returncode != 0
    (line,) = [line for line in end.stderr.splitlines() if line.startswith("error:")]
    assert "accelerate launch was asked for 2 processes, but it has started one" in line
    assert not (tmp_path / "runs").exists()


def test_no_rank_outlives_its_launcher(straight: Path, vectors: dict[str, Any], tmp_path: Path) -> None:
    launcher = command(vectors, tmp_path, "it", what="wait")
    waiting = [tmp_path / f"waits_{rank}" for rank in (0, 1)]
    wait_until(lambda: all(file.exists() and file.read_text() for file in waiting), "the ranks do not train")
    ranks = [int(file.read_text()) for file in waiting]
    os.kill(ranks[0], signal.SIGSTOP)
    launcher.kill()
    wait_until(lambda: not any(map(_lives, ranks)), "ranks without a launcher")
    assert resumed(tmp_path, "it") == digest(straight.parent.parent, "two")


def _lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
