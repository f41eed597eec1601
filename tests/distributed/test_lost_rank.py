"""A process of a run is lost: the others name it and end with 75, and the run goes on to the same bits."""

from __future__ import annotations

import json
import os
import platform
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from rank_environment import rank_environments
from runs import history
from warm_commands import WarmCommand, need_mounts

from mltrain.core.files import read_json

CONFIG = f"""task: losing_vectors
plugins: [{ROOT}/tests/support/losing_task.py]
data: {{num_workers: 0}}
model: {{}}
training: {{num_epochs: 3, batch_size: 8, trainer_type: accelerate, collective_timeout_s: 3}}
callbacks: {{losing: {{}}}}
tracking: {{log_every_n_steps: 2, mlflow: {{enabled: false}}}}
reproducibility: {{num_threads: 1}}
"""
PATIENT = "training.collective_timeout_s=60"
WORDS = ["mltrain", "--config", "it.yaml", "--run_name", "it"]


def act(place: str, at: Any, do: str, *, rank: int) -> dict[str, Any]:
    return {"place": place, "at": at, "rank": rank, "do": [do]}


class Launch:
    """A command as so many processes, one of which does something; what is left of them is killed at the end."""

    def __init__(self, words: list[str], folder: Path, count: int = 2, acts: tuple[dict[str, Any], ...] = ()) -> None:
        environments = [{**one, "ACT": json.dumps(acts)} for one in rank_environments(count)]
        self.ranks = [WarmCommand(words, folder, environment) for environment in environments]

    def __enter__(self) -> list[WarmCommand]:
        return self.ranks

    def __exit__(self, *_: object) -> None:
        for rank in self.ranks:
            rank.kill()


def errors(command: WarmCommand) -> list[str]:
    """Return the lines of error of a process that has ended by itself."""
    shown = command.end().stderr
    assert "Traceback" not in shown
    return [line for line in shown.splitlines() if line.startswith("error:")]


def name(rank: int, command: WarmCommand) -> str:
    return f"rank {rank} (process {command.pid} on {platform.node()})"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    (folder / "it.yaml").write_text(CONFIG)
    with Launch([*WORDS, PATIENT], folder) as both:
        assert [command.end().returncode for command in both] == [0, 0]
    return folder / "runs" / "it"


@pytest.fixture(autouse=True)
def _config(tmp_path: Path) -> None:
    (tmp_path / "it.yaml").write_text(CONFIG)


def assert_continues(folder: Path, straight: Path) -> None:
    """Assert that the run goes on, in two processes, to the bits of the one that nothing happened to."""
    with Launch(["mltrain", "--resume", "runs/it", PATIENT], folder) as both:
        assert [command.end().returncode for command in both] == [0, 0]
    run = folder / "runs" / "it"
    assert read_json(run / "summary.json")["model_digest"] == read_json(straight / "summary.json")["model_digest"]
    assert history(run) == history(straight)


def test_the_other_names_a_killed_one_and_the_run_continues_to_the_same_bits(tmp_path: Path, straight: Path) -> None:
    with Launch([*WORDS, PATIENT], tmp_path, acts=(act("on_step_end", 6, "SIGKILL", rank=1),)) as (first, second):
        (line,) = errors(first)
        assert first.end().returncode == 75
        assert second.end().returncode == -signal.SIGKILL
        assert f"{name(1, second)} has died; it is missed in epoch 2, step 7." in line
    assert f"Continue with --resume {tmp_path}/runs/it: the checkpoints are whole." in line
    assert read_json(tmp_path / "runs" / "it" / "summary.json")["status"] == "failed"
    assert_continues(tmp_path, straight)
    assert (tmp_path / "runs/it/logs/rank_1.log").read_text().count("saving it as step-00000004") == 1
    assert (straight / "logs" / "rank_1.log").is_file()


LOST = {
    "killed in a step": (act("on_step_end", 6, "SIGKILL", rank=0), "has died; it is missed in epoch 2, step 7"),
    "killed in validation": (act("load", "val/0", "SIGKILL", rank=0), "missed in epoch 1, after step 4 (validate)"),
    "killed in the last evaluation": (act("load", "test/11", "SIGKILL", rank=1), "missed after step 12 (evaluate)"),
    "killed in a save": (act("fsync", "state.json", "SIGKILL", rank=0), "has died; it is missed in epoch"),
    "killed at its reports": (act("reports", "train", "SIGKILL", rank=0), "has died; it is missed after step 12"),
    "ended": (act("on_step_end", 6, "exit", rank=1), "has died; it is missed in epoch 2, step 7"),
    "ended, the first": (act("on_step_end", 6, "exit", rank=0), "has died; it is missed in epoch 2, step 7"),
    "stopped": (act("on_step_end", 6, "SIGSTOP", rank=1), "hangs, for its process is stopped; it is missed in epoch"),
    "stopped, the first": (act("on_step_end", 6, "SIGSTOP", rank=0), "hangs, for its process is stopped"),
    "asleep in its loader": (act("load", "train/25", "stand still", rank=1), "at stand_still (losing_task.py:"),
    "asleep, the first": (act("on_step_end", 6, "stand still", rank=0), "in epoch 2, step 7, at stand_still"),
    "asleep at its reports": (act("reports", "train", "stand still", rank=0), "it stands after step 12 (evaluate)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", LOST)
def test_one_of_two(how: str, tmp_path: Path, straight: Path) -> None:
    deed, told = LOST[how]
    with Launch(WORDS, tmp_path, acts=(deed,)) as both:
        lost, left = both[deed["rank"]], both[1 - deed["rank"]]
        (line,) = errors(left)
        assert left.end().returncode == 75
    assert name(deed["rank"], lost) in line
    assert told in line
    assert f"--resume {tmp_path}/runs/it" in line
    assert_continues(tmp_path, straight)


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "tells"), [(0, 1), (1, 0), (2, 0)])
@pytest.mark.parametrize("deed", ["SIGKILL", "stand still", "SIGSTOP"])
def test_of_several_that_are_left_the_first_tells(lost: int, tells: int, deed: str, tmp_path: Path) -> None:
    with Launch(WORDS, tmp_path, 3, (act("on_step_end", 6, deed, rank=lost),)) as all_three:
        left = [rank for rank in range(3) if rank != lost]
        assert [all_three[rank].end().returncode for rank in left] == [75, 75]
        assert [len(errors(all_three[rank])) for rank in left] == [int(rank == tells) for rank in left]
        (line,) = errors(all_three[tells])
        assert name(lost, all_three[lost]) in line
    for rank in set(left) - {0}:
        assert name(lost, all_three[lost]) in (tmp_path / "runs" / "it" / "logs" / f"rank_{rank}.log").read_text()


@pytest.mark.slow
def test_one_that_hangs_writes_where_it_stands(tmp_path: Path) -> None:
    with Launch(WORDS, tmp_path, acts=(act("on_step_end", 6, "stand still", rank=1),)) as (first, _):
        errors(first)
        log = (tmp_path / "runs" / "it" / "logs" / "rank_1.log").read_text()
    assert "The other processes have given this one up: rank 1" in log
    assert "in stand_still" in log


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_its_own_is_told_once(rank: int, tmp_path: Path, straight: Path) -> None:
    with Launch(WORDS, tmp_path, acts=(act("on_step_end", 6, "fail", rank=rank),)) as both:
        lines = errors(both[0])
        assert errors(both[1]) == []
        assert [command.end().returncode for command in both] == ([1, 75] if rank == 0 else [75, 1])
    assert len(lines) == 1
    assert "ValueError: the test says so" in lines[0]
    assert "ValueError: the test says so" in (tmp_path / "runs" / "it" / "logs" / "rank_1.log").read_text()
    assert_continues(tmp_path, straight)


@pytest.mark.slow
def test_other_processes_write_nothing_but_their_log(tmp_path: Path, straight: Path) -> None:
    """The second process sees the run folder read-only, but for a log of its own."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root can make a folder read-only for one process alone")
    need_mounts()
    with Launch([*WORDS, PATIENT], tmp_path, acts=(act("on_step_end", 2, "SIGTERM", rank=0),)) as both:
        assert [command.end().returncode for command in both] == [143, 143]
    run = tmp_path / "runs" / "it"
    (run / "logs" / "rank_1.log").touch()
    log = str(run / "logs" / "rank_1.log")
    mounts = [["--bind", str(run), str(run)], ["--bind", log, log], ["-o", "remount,ro,bind", str(run)]]
    words, (one, two) = ["mltrain", "--resume", "runs/it"], rank_environments(2)
    both = [WarmCommand(words, tmp_path, one), WarmCommand(words, tmp_path, two, mounts)]
    assert [command.end().returncode for command in both] == [0, 0], [command.end().stderr for command in both]
    assert read_json(run / "summary.json")["model_digest"] == read_json(straight / "summary.json")["model_digest"]
