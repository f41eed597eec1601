"""Runs that were killed or interrupted: told truthfully, continued to the same bits. (Signals: tests/faults.)"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from mltrain.core.errors import RunFolderError, SignalError
from mltrain.core.files import read_json
from mltrain.core.signal_handling import NOTHING_TO_SAVE
from mltrain.workflows.session import Session

SETTINGS = {"training.num_epochs": 150, "checkpointing.every_n_epochs": 50, "checkpointing.selection": "last"}


def start(vectors: dict[str, Any], folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a run that takes long enough to be interrupted."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(vectors))
    words = [f"{key}={value}" for key, value in SETTINGS.items()]
    return subprocess.Popen(
        [sys.executable, "-m", "mltrain", "--config", str(config), "--run_name", "it", *words, *overrides],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_metrics(folder: Path, lines: int) -> None:
    """Return when the run has logged so many lines: it is training by then."""
    metrics, end = folder / "runs" / "it" / "metrics.jsonl", time.monotonic() + 60
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < end, "the run did not start to train"
        time.sleep(0.02)


def test_resume_auto_finds_the_unfinished_run(train_vectors: Any) -> None:
    stopped = train_vectors({"callbacks": {"stop_at": {"step": 4}}, "run.name": "mine"})
    continued = train_vectors({"run.name": "mine"}, resume="auto")
    assert continued.folder == stopped.folder
    assert continued.summary["status"] == "completed"
    # A queue may start the same command once more: there is nothing left to do.
    before = (continued.folder / "metrics.jsonl").read_bytes()
    again = train_vectors({"run.name": "mine"}, resume="auto")
    assert again.folder == stopped.folder
    assert again.summary == continued.summary
    assert (continued.folder / "metrics.jsonl").read_bytes() == before
    # Another configuration of the same name is another run, and the name is taken.
    with pytest.raises(RunFolderError, match="already exists"):
        train_vectors({"run.name": "mine", "optimizer.lr": 0.5}, resume="auto")


@pytest.mark.parametrize(
    "place", ["train.read_request", "train.check_training", "train.create_run_folder", "session.begin_segment"]
)
def test_a_signal_at_any_moment_before_training_is_told_once(
    train_vectors: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise SignalError(2)

    monkeypatch.setattr(f"mltrain.workflows.{place}", interrupt)
    with pytest.raises(SignalError):
        train_vectors({}, verbose=True)
    assert capsys.readouterr().err.count(NOTHING_TO_SAVE) == 1


def test_a_signal_after_training_is_not_told_as_one_before(
    train_vectors: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Session.run

    def interrupt(*arguments: Any, **more: Any) -> None:
        ended(*arguments, **more)
        raise SignalError(2)

    monkeypatch.setattr(Session, "run", interrupt)
    with pytest.raises(SignalError):
        train_vectors({}, verbose=True)
    assert NOTHING_TO_SAVE not in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_continuation_of_a_finished_run_is_unfinished(
    vectors: dict[str, Any], train_vectors: Any, tmp_path: Path
) -> None:
    finished = train_vectors({"run.dir": str(tmp_path / "runs"), "run.name": "it"})
    before = dict(finished.summary)
    process = start(vectors, tmp_path, "--resume", str(finished.folder), "training.num_epochs=5000")
    wait_for_metrics(tmp_path, (finished.folder / "metrics.jsonl").read_bytes().count(b"\n") + 6)
    process.kill()
    process.communicate(timeout=60)
    summary = read_json(finished.folder / "summary.json")
    assert summary["status"] == "running"
    assert summary["model_digest"] is None
    assert read_json(finished.folder / "metadata.json")["segments"][-1]["summary_before"] == before


SCRIPT = '''
import signal

import torch
import mltrain


class Interrupting(torch.utils.data.Dataset):
    """At its twentieth item the user presses Ctrl-C twice."""

    given = 0

    def __len__(self):
        return 64

    def __getitem__(self, index):
        Interrupting.given += 1
        if Interrupting.given == 20:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return torch.zeros(2), 0


signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell begin with it ignored
settings = {"data": {"num_workers": 0}, "tracking": {"mlflow": {"enabled": False}}, "run": {"name": "it"}}
try:
    mltrain.Trainer(torch.nn.Linear(2, 2), Interrupting(), config=settings).fit()
except KeyboardInterrupt:
    print("the script goes on")
'''


@pytest.mark.slow
def test_a_second_interrupt_leaves_a_run_in_python_but_not_python(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "the script goes on" in ended.stdout
    assert read_json(tmp_path / "runs" / "it" / "summary.json")["status"] == "interrupted"
