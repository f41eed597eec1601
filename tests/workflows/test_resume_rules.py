"""What a resumed run may change, and what it may not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from runs import history

from mltrain.core.errors import CheckpointError, ConfigError, RunFolderError
from mltrain.core.files import read_json
from mltrain.workflows.session import Session


@pytest.fixture
def stopped(train_vectors: Any) -> Path:
    settings = {"callbacks": {"stop_at": {"step": 10}}, "checkpointing.every_n_steps": 4, "run.name": "it"}
    return Path(train_vectors(settings).folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model.dropout": 0.5}, r"model\.dropout = 0\.0, now it is 0\.5"),
        ({"data.train_size": 40}, r"data\.train_size = 50, now it is 40"),
        ({"seed": 1}, "seed = 42, now it is 1"),
        ({"optimizer.name": "sgd"}, "optimizer.name = 'adamw', now it is 'sgd'"),
        ({"training.batch_size": 16}, "is 16, which does not fit the windows of this run: 8 samples"),
        ({"training.ema.enabled": True}, "training.ema.enabled = false"),
    ],
    ids=str,
)
def test_what_is_learned_must_stay(stopped: Path, train_vectors: Any, change: dict[str, Any], told: str) -> None:
    before = (stopped / "config.yaml").read_bytes(), (stopped / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=told):
        train_vectors({"callbacks": {}, **change}, config=None, resume=stopped)
    assert before == ((stopped / "config.yaml").read_bytes(), (stopped / "metrics.jsonl").read_bytes())


def test_another_rate_and_more_epochs_are_allowed_and_recorded(stopped: Path, train_vectors: Any) -> None:
    result = train_vectors(
        {"callbacks": {}, "optimizer.lr": 0.005, "training.num_epochs": 5}, config=None, resume=stopped
    )
    assert result.summary["epochs"] == 5
    first, second = read_json(stopped / "metadata.json")["segments"]
    assert "resumed_from" not in first
    assert second["resumed_from"] == "step-00000010"
    assert second["changes"]["optimizer.lr"] == [0.001, 0.005]
    assert second["changes"]["training.num_epochs"] == [3, 5]


def test_a_run_of_which_nothing_has_come_may_begin_otherwise(train_vectors: Any) -> None:
    folder = Path(train_vectors({"callbacks": {"stop_at": {"step": 1}}, "run.name": "it"}).folder)
    straight = train_vectors({"seed": 3, "training.batch_size": 16, "data.train_size": 40})
    for path in (folder / "checkpoints").iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    (folder / "metrics.jsonl").write_text("")
    result = train_vectors(
        {"callbacks": {}, "seed": 3, "training.batch_size": 16, "data.train_size": 40}, config=None, resume=folder
    )
    assert result.summary["model_digest"] == straight.summary["model_digest"]
    metadata = read_json(folder / "metadata.json")
    assert metadata["window_size"] == 16
    assert metadata["data"] == read_json(straight.folder / "metadata.json")["data"]
    first, second = metadata["segments"]
    assert "resumed_from" not in first
    assert second["resumed_from"] is None
    assert second["summary_before"]["status"] == "interrupted"
    again = train_vectors({"callbacks": {}, "training.num_epochs": 4}, config=None, resume=folder)
    assert again.summary["epochs"] == 4


def test_a_finished_run_can_be_extended(train_vectors: Any) -> None:
    short = train_vectors({"scheduler.name": "none"})
    long = train_vectors({"training.num_epochs": 5}, config=None, resume=short.folder)
    straight = train_vectors({"scheduler.name": "none", "training.num_epochs": 5})
    assert long.summary["model_digest"] == straight.summary["model_digest"]


def test_another_task_is_told_before_all_else_that_differs(train_vectors: Any, stopped: Path) -> None:
    text = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(text.replace("task: vectors", "task: text_classification"))
    with pytest.raises(ConfigError, match=r"this run has task = text_classification, now it is vectors\. Continue"):
        train_vectors({"training.batch_size": 3}, resume=stopped)


def test_fewer_epochs_than_were_trained_are_refused(train_vectors: Any) -> None:
    run = train_vectors({})
    before = (run.folder / "config.yaml").read_bytes()
    with pytest.raises(ConfigError, match="is 2, but the run has trained 3 epochs"):
        train_vectors({"training.num_epochs": 2}, config=None, resume=run.folder)
    assert (run.folder / "config.yaml").read_bytes() == before


def test_a_finished_run_is_not_evaluated_again_unless_something_differs(train_vectors: Any) -> None:
    run = train_vectors({"checkpointing.selection": "last"})
    modified = (run.folder / "summary.json").stat().st_mtime_ns
    again = train_vectors({"data.num_workers": 1}, config=None, resume=run.folder)
    assert again.summary == run.summary
    assert (run.folder / "summary.json").stat().st_mtime_ns == modified
    other = train_vectors({"checkpointing.selection": "best"}, config=None, resume=run.folder)
    assert other.summary["finished"] >= run.summary["finished"]
    assert (run.folder / "summary.json").stat().st_mtime_ns > modified


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(
    stopped: Path, train_vectors: Any, caplog: pytest.LogCaptureFixture
) -> None:
    newest = stopped / "checkpoints" / "step-00000010"
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (newest / "model.safetensors").write_bytes(content)
    result = train_vectors({"callbacks": {}}, config=None, resume=stopped)
    assert "the content of model.safetensors has changed" in caplog.text
    assert read_json(stopped / "metadata.json")["segments"][-1]["resumed_from"] == "step-00000008"
    straight = train_vectors({"checkpointing.every_n_steps": 4})
    assert result.summary["model_digest"] == straight.summary["model_digest"]


def test_a_damaged_checkpoint_that_was_named_is_an_error(stopped: Path, train_vectors: Any) -> None:
    named = stopped / "checkpoints" / "step-00000010"
    (named / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json has 2 bytes instead of"):
        train_vectors({"callbacks": {}}, config=None, resume=named)


def test_an_older_checkpoint_can_be_named_and_newer_ones_are_kept_aside(stopped: Path, train_vectors: Any) -> None:
    result = train_vectors({"callbacks": {}}, config=None, resume=stopped / "checkpoints" / "step-00000008")
    assert result.summary["status"] == "completed"
    aside = [path.name for path in (stopped / "checkpoints").iterdir() if path.name.startswith("superseded-")]
    assert [name[:24] for name in aside] == ["superseded-step-00000010"]
    records = [json.loads(line) for line in (stopped / "metrics.jsonl").read_text().splitlines()]
    steps = [record["step"] for record in records if "train/step_loss" in record]
    assert steps == sorted(set(steps))


def test_a_folder_that_is_no_run_is_told(train_vectors: Any, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"not a run folder.*ml-train"):
        train_vectors({}, config=None, resume=tmp_path)


def test_a_run_that_is_killed_while_it_goes_back_to_an_older_checkpoint_loses_no_metric(
    stopped: Path, train_vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_recorder = Session._open_recorder

    def open_and_die(self: Session, point: Any) -> Any:
        open_recorder(self, point)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "_open_recorder", open_and_die)
        with pytest.raises(KeyboardInterrupt):
            train_vectors({"callbacks": {}}, config=None, resume=stopped / "checkpoints" / "step-00000008")
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped)
    straight = train_vectors({"checkpointing.every_n_steps": 4})
    assert history(stopped) == history(straight.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]


def test_a_pointer_names_the_checkpoint_to_continue_from(stopped: Path, train_vectors: Any) -> None:
    best = (stopped / "checkpoints" / "best").read_text().strip()
    train_vectors({"callbacks": {}}, config=None, resume=stopped / "checkpoints" / "best")
    assert read_json(stopped / "metadata.json")["segments"][-1]["resumed_from"] == best


@pytest.mark.parametrize("name", ["superseded-step-00000008-abcd", "notes.txt", ".."])
def test_what_is_no_checkpoint_is_refused_before_anything_changes(stopped: Path, train_vectors: Any, name: str) -> None:
    before = (stopped / "metrics.jsonl").read_bytes(), (stopped / "metadata.json").read_bytes()
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        train_vectors({"callbacks": {}}, config=None, resume=stopped / "checkpoints" / name)
    assert before == ((stopped / "metrics.jsonl").read_bytes(), (stopped / "metadata.json").read_bytes())


@pytest.mark.parametrize("change", [{"optimizer.weight_decay": 0.5}, {"scheduler.name": "none"}], ids=str)
def test_a_complete_run_is_left_alone_by_what_means_nothing_to_it(
    train_vectors: Any, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = train_vectors({"training.num_epochs": 1})
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    again = train_vectors(change, config=None, resume=run.folder)
    assert again.summary == run.summary
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert f"does nothing to a complete run: {next(iter(change))}." in caplog.text


@pytest.mark.parametrize("change", [{"run.name": "other"}, {"run.dir": "elsewhere"}], ids=str)
def test_a_run_continues_in_its_own_place(stopped: Path, train_vectors: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a run continues in its own place"):
        train_vectors({"callbacks": {}, **change}, config=None, resume=stopped)
