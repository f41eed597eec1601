"""The command that proves exact resume: passes what is exact, fails what is not, and leaves nothing of its own."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import ROOT, VECTORS_PLUGIN
from warm_commands import WarmCommand, wait_until
from warm_runs import warm_launcher

from mltrain.cli.main import main
from mltrain.core.errors import ConfigError
from mltrain.workflows.verify_resume import Verification, verify_resume
from mltrain.workflows.verify_settings import check_verification, verification_settings

INEXACT_PLUGIN = VECTORS_PLUGIN.with_name("inexact.py")


@pytest.fixture
def small(vectors: dict[str, Any]) -> dict[str, Any]:
    """A run of 18 steps, with tasks and callbacks that keep a run from being exact at hand."""
    data = {"num_workers": 0, "train_size": 48, "val_size": 8}
    return {**vectors, "plugins": [str(VECTORS_PLUGIN), str(INEXACT_PLUGIN)], "data": data}


def verify(config: dict[str, Any], overrides: dict[str, Any] | None = None, **arguments: Any) -> Verification:
    return verify_resume(config, overrides, **{"kills": 1, "launcher": warm_launcher(), **arguments})


def test_the_command_passes_what_is_exact_and_leaves_nothing(
    small: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mltrain.workflows.verify_resume.command_launcher", warm_launcher)
    Path("c.yaml").write_text(yaml.safe_dump(small))
    assert main(["verify-resume", "--config", "c.yaml", "--kills", "1"]) == 0
    shown = capsys.readouterr()
    title, _, row, verdict = shown.out.splitlines()
    assert title.split("  ")[0] == "kill"
    assert row.split()[0] == "1"
    assert verdict.startswith("PASS: Same bits: the model (")
    assert "checkpointing.every_n_steps is 1 in all runs, for their 18 steps" in shown.err
    assert "Kill 1 of 1: " in shown.err
    assert [path.name for path in Path().iterdir()] == ["c.yaml"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "settings"),
    [(1, {"data.num_workers": 2}), (2, {"training.trainer_type": "accelerate"})],
    ids=["one process", "two processes"],
)
def test_runs_that_are_commands_leave_no_process_and_no_folder_behind(
    small: dict[str, Any], processes: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    settings = {**settings, "plugins": [str(VECTORS_PLUGIN)]}
    found = verify_resume(small, settings, kills=2, num_processes=processes)
    assert found.same, found.verdict
    assert len(found.kills) == 2
    # psutil gives None for the arguments of a process that it may not look into.
    left = [process for process in psutil.process_iter(["cmdline"]) if "killed-1" in (process.info["cmdline"] or ())]
    assert not left
    assert not list(tmp_path.glob("mltrain-launch-*"))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["unseeded", "seeded_once"])
def test_a_task_that_draws_from_a_generator_of_its_own_fails_and_its_runs_are_kept(
    small: dict[str, Any], task: str
) -> None:
    """The second is exact whenever it is not resumed: without a kill nobody would see it.

    So long a training, and two kills, that one of them falls into it on a slow machine too.
    """
    settings = {"task": task, "run.dir": "mine", "checkpointing.every_n_steps": 4, "training.num_epochs": 15}
    found = verify(small, settings, kills=2)
    assert not found.same
    assert found.verdict.startswith("Different: train/step_loss at step ")
    assert found.folder is not None
    assert found.folder.parent == Path("mine").resolve()
    for run in ("straight", "killed-1"):
        assert (found.folder / run / "metrics.jsonl").is_file()
        assert (found.folder / f"{run}.log").stat().st_size > 0


@pytest.mark.slow
def test_a_metric_of_one_run_only_fails(small: dict[str, Any]) -> None:
    found = verify(small, {"callbacks": {"tells_of_resuming": {}}, "checkpointing.every_n_steps": 3})
    assert not found.same
    assert found.verdict == "Different: logged by one of the runs only: mine/resumed_at."


def test_a_run_that_fails_by_itself_is_no_proof(small: dict[str, Any]) -> None:
    found = verify(small, {"task": "failing"})
    assert not found.same
    assert found.verdict.startswith("The run straight failed with exit code 1: inexact.py:")
    assert "KeyError: 'draw'" in found.verdict
    assert found.folder is not None


def test_what_is_not_as_the_user_has_it_is_said(small: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mltrain")
    config = {**small, "tracking": {"tensorboard": {"enabled": True}}, "training": {"num_epochs": 10, "batch_size": 8}}
    loaded, steps = check_verification(
        config, {"reproducibility.deterministic": False}, num_processes=1, by_hand="overrides"
    )
    assert steps == 60
    settings = verification_settings(loaded, steps, Path("here"))
    assert settings["checkpointing"]["every_n_steps"] == 3
    assert settings["run"]["dir"] == "here"
    assert [settings["tracking"][name]["enabled"] for name in ("mlflow", "tensorboard", "wandb")] == [False] * 3
    warning, saves, trackers = caplog.messages[-3:]
    assert warning.startswith("Not deterministic (reproducibility.deterministic is false)")
    assert saves.startswith("checkpointing.every_n_steps is 3 in all runs, for their 60 steps")
    assert trackers.startswith("Not sent to trackers (mlflow, tensorboard)")


def test_what_the_user_sets_stays(small: dict[str, Any]) -> None:
    asked = {"tracking.mlflow.enabled": True, "checkpointing.every_n_steps": 7}
    loaded, steps = check_verification(small, asked, num_processes=1, by_hand="overrides")
    settings = verification_settings(loaded, steps, Path("here"))
    assert settings["checkpointing"]["every_n_steps"] == 7
    assert settings["tracking"]["mlflow"]["enabled"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("--kills 0", "kills: is 0. Use 1 or more."),
        ("--num-processes 0", "num_processes: is 0. Use 1 or more."),
        ("--num_processes 2", "standard trains in one process, but 2 were launched"),
        ("--num_epochs x", "command line, training.num_epochs: must be a whole number, at least 1, is 'x'."),
        ("--trainer acelerate", "command line, training.trainer_type: unknown trainer 'acelerate'."),
        ("data.train_size=4 --num_epochs 1", "the run has a single step: nothing can be resumed."),
        ("--output c.yaml", "c.yaml: cannot write here (Not a directory). Name another folder with --output."),
    ],
)
def test_a_mistake_gives_one_line_and_leaves_nothing(
    small: dict[str, Any], capsys: pytest.CaptureFixture[str], given: str, line: str
) -> None:
    Path("c.yaml").write_text(yaml.safe_dump(small))
    assert main(["verify-resume", "--config", "c.yaml", *given.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert line in error
    assert not Path("runs").exists()


def test_a_mistake_that_the_run_itself_finds_is_passed_on(small: dict[str, Any]) -> None:
    """Arguments of a plugin's callback are not looked at before."""
    with pytest.raises(ConfigError, match="tells_of_resuming refuses its arguments"):
        verify(small, {"callbacks.tells_of_resuming.wrong": 1})
    assert not Path("runs").exists()


def test_a_run_that_cannot_be_caught_is_told(small: dict[str, Any]) -> None:
    """Its children end at once, as those of a run that needs no time do."""

    class Ended:
        def poll(self) -> int:
            return 0

        kill = poll

    with pytest.raises(ConfigError, match="it ends before it can be killed"):
        verify(small, launcher=lambda words, output: Ended())


def test_sigterm_ends_what_was_started_and_clears_away(small: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(small))
    command = WarmCommand(["mltrain", "verify-resume", "--config", "c.yaml"], tmp_path)
    wait_until(lambda: bool(list(tmp_path.glob("runs/*/straight.log"))), "no run was started")
    (run,) = psutil.Process(command.pid).children()
    psutil.Process(command.pid).send_signal(signal.SIGTERM)
    assert command.end().returncode == 143
    wait_until(lambda: not run.is_running() or run.status() == psutil.STATUS_ZOMBIE, "the run goes on")
    assert not (tmp_path / "runs").exists()


def test_help_is_there_without_torch() -> None:
    program = "import sys; from mltrain.cli.main import main\ntry: main(['verify-resume', '--help'])\n"
    program += "except SystemExit: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "--kills N" in shown.stdout
    assert shown.stdout.splitlines()[-1] == "False"
