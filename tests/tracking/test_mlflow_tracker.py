"""Against real stores and the real follower process. Runs are shared: each start of a follower costs seconds."""

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from mltrain.core.errors import ConfigError
from mltrain.core.files import write_json
from mltrain.core.logging import log
from mltrain.core.run_folder import create_run_folder
from mltrain.tracking.base import TRACKERS
from mltrain.tracking.metrics_log import MetricsLog

CONFIG = """
task: image_classification
data: {data_dir: data/flowers, dataset_name: null, fold: 0}
optimizer: {name: adamw, lr: 0.001}
run: {description: a first try, tags: {team: red}}
"""
LONG = "x" * 7000
NON_PRIVATE = ["*", "!privacy/*", "!train/lr"]
CLAIM = {"epsilon": 2.5, "delta": 1e-5, "void": None, "statement": "reports/privacy.html"}

# A training process with a forked loader process, which outlives it and holds its pipes open.
TRAINER = """
import os, sys, time
from pathlib import Path
from mltrain.core.run_folder import open_run_folder
from mltrain.tracking.base import TRACKERS
from mltrain.tracking.metrics_log import MetricsLog

folder = open_run_folder(Path(sys.argv[1]))
tracker = TRACKERS.get("mlflow")(folder, {"tracking_uri": sys.argv[2], "experiment": "race"})
tracker.open()
metrics = MetricsLog(folder.metrics)
for step in range(60):
    if step == 40:
        length = metrics.length
    tracker.log(metrics.write(step=step, epoch=step // 30, values={"train/loss": 1.0 / (step + 1)}))
loader = os.fork()
if loader == 0:
    time.sleep(120)
    os._exit(0)
print(loader, length, flush=True)
time.sleep(120)
"""


def new_run(project, name, *, config=CONFIG):
    folder = create_run_folder(project / "runs", name, numbered=False)
    folder.config.write_text(config)
    write_json(
        folder.metadata,
        {"git": {"commit": "0123abc"}, "data": {"digest": "d" * 40}, "command_line": "ml-train", "packages": {"a": 1}},
    )
    return folder


def tracker_of(folder, uri, **settings):
    return TRACKERS.get("mlflow")(folder, {"enabled": True, "experiment": None, "tracking_uri": uri, **settings})


def wait_for(condition, *, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def log_of(folder):
    file = folder.tracking / "mlflow.log"
    return file.read_text() if file.exists() else ""


@contextlib.contextmanager
def captured_log():
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    log.addHandler(handler)
    try:
        yield messages
    finally:
        log.removeHandler(handler)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Four runs that start together on a store that does not exist yet and end in four ways; one is then resumed."""
    project = tmp_path_factory.mktemp("a project")
    uri = f"sqlite:///{project}/mlflow.db"

    completed = new_run(project, "completed", config=f"{CONFIG}model: {{note: {LONG}}}\n")
    interrupted, failed, died = (new_run(project, name) for name in ("interrupted", "failed", "died"))
    write_json(failed.summary, {"status": "running"})  # it could not write its end
    write_json(completed.summary, {"status": "running", "non_private": NON_PRIVATE})
    trackers = {folder.name: tracker_of(folder, uri, experiment="race") for folder in (completed, interrupted, failed)}
    for tracker in trackers.values():
        tracker.open()
    trainer = subprocess.Popen([sys.executable, "-c", TRAINER, died.path, uri], stdout=subprocess.PIPE, text=True)
    loader, length = map(int, trainer.stdout.readline().split())
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()

    write_run(completed)
    write_json(completed.summary, {"status": "early_stopped", "non_private": NON_PRIVATE, "privacy": CLAIM})
    write_json(interrupted.summary, {"status": "interrupted"})
    with captured_log() as messages:
        for tracker in trackers.values():
            tracker.end()
        for tracker in trackers.values():
            tracker.close()
    try:
        wait_for(lambda: "is complete" in log_of(died))
    finally:
        os.kill(loader, signal.SIGKILL)
    client = MlflowClient(tracking_uri=uri)

    def run_of(name):
        (run,) = client.search_runs([client.get_experiment_by_name("race").experiment_id], f"run_name = '{name}'")
        return run

    return SimpleNamespace(
        project=project, uri=uri, client=client, run_of=run_of, died=died, length=length, messages=messages
    )


def write_run(folder):
    metrics = MetricsLog(folder.metrics, non_private=NON_PRIVATE)
    for step in range(1500):
        metrics.write(step=step, epoch=step // 500, values={"train/loss": 1.0 / (step + 1), "nothing": float("nan")})
    metrics.write(step=1499, epoch=2, values={"val/accuracy": 0.75, "val/f1 [a+b]": 0.5, "privacy/epsilon": 2.5})
    metrics.close()
    (folder.logs / "train.log").write_text("a line\n")
    (folder.reports / "curves.png").write_bytes(b"png")
    folder.model.mkdir()
    (folder.model / "model.safetensors").write_bytes(b"weights")
    (folder.checkpoints / "step-1").mkdir()
    folder.requirements.write_text("torch\n")
    folder.summary_text.write_text("done\n")


def history(store, run, name):
    points = store.client.get_metric_history(run.info.run_id, name)
    return sorted((point.step, point.value) for point in points)


@pytest.mark.slow
def test_all_processes_that_want_a_fresh_store_get_it(store):
    experiment = store.client.get_experiment_by_name("race")
    assert {run.info.run_name for run in store.client.search_runs([experiment.experiment_id])} == {
        "completed",
        "interrupted",
        "failed",
        "died",
    }
    assert store.messages == []
    with contextlib.closing(sqlite3.connect(store.project / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_metrics_have_their_steps_and_times(store):
    run = store.run_of("completed")
    assert history(store, run, "train/loss") == [(step, 1.0 / (step + 1)) for step in range(1500)]
    assert history(store, run, "val/accuracy") == [(1499, 0.75)]
    assert history(store, run, "epoch") == [(0, 0.0), (500, 1.0), (1000, 2.0)]
    assert set(run.data.metrics) == {"train/loss", "val/accuracy", "val/f1 _a_b_", "privacy/epsilon", "epoch"}
    (point,) = store.client.get_metric_history(run.info.run_id, "val/accuracy")
    assert abs(point.timestamp / 1000 - time.time()) < 600


def test_the_configuration_becomes_parameters(store):
    assert store.run_of("completed").data.params == {
        "task": "image_classification",
        "data.data_dir": "data/flowers",
        "data.dataset_name": "null",
        "data.fold": "0",
        "optimizer.name": "adamw",
        "optimizer.lr": "0.001",
        "model.note": LONG[:6000],
    }


def test_tags_description_and_data(store):
    run = store.run_of("completed")
    wanted = {
        "team": "red",
        "mlflow.note.content": "a first try\n\n"
        "Not private: no privacy guarantee covers the values *, but not privacy/*, train/lr.",
        "privacy.epsilon": "2.5",
        "privacy.delta": "1e-05",
        "privacy.statement": "reports/privacy.html",
        "privacy.non_private": "*, but not privacy/*, train/lr",
        "mlflow.source.git.commit": "0123abc",
        "mlflow.source.name": "ml-train",
        "mltrain.data.digest": "d" * 40,
        "mltrain.status": "early_stopped",
    }
    assert wanted.items() <= run.data.tags.items()
    assert not any("packages" in name or name == "privacy.void" for name in run.data.tags)
    (dataset,) = (entry.dataset for entry in run.inputs.dataset_inputs)
    assert (dataset.name, dataset.digest) == ("flowers", "d" * 36)


def test_documents_and_model_are_artifacts_and_checkpoints_are_not(store):
    run = store.run_of("completed")
    assert run.info.artifact_uri.startswith((store.project / "mlartifacts").as_uri())

    def files(folder=None):
        for entry in store.client.list_artifacts(run.info.run_id, folder):
            yield from files(entry.path) if entry.is_dir else [entry.path]

    assert set(files()) == {
        "config.yaml",
        "metadata.json",
        "requirements.txt",
        "summary.json",
        "summary.txt",
        "logs/train.log",
        "reports/curves.png",
        "model/model.safetensors",
    }


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("completed", "FINISHED", "early_stopped"),
        ("interrupted", "KILLED", "interrupted"),
        ("failed", "FAILED", "failed"),
        ("died", "FAILED", "died"),
    ],
)
def test_the_end_is_told_truthfully(store, name, status, said):
    run = store.run_of(name)
    assert (run.info.status, run.data.tags["mltrain.status"]) == (status, said)
    assert run.info.end_time >= run.info.start_time


def test_what_was_logged_before_a_kill_is_in_the_store(store):
    assert history(store, store.run_of("died"), "train/loss") == [(step, 1.0 / (step + 1)) for step in range(60)]


def test_resume_continues_the_run_without_duplicates(store):
    before = store.run_of("died")
    assert before.data.tags["mlflow.note.content"] == "a first try"
    for name, text in {
        "privacy.epsilon": "0.5",
        "privacy.non_private": "train/*",
    }.items():  # as an end before leaves it
        store.client.set_tag(before.info.run_id, name, text)
    folder = store.died
    folder.config.write_text(CONFIG.replace("0.001", "0.01") + "model: {added: true}\n")
    tracker = tracker_of(folder, store.uri, experiment="race")
    metrics = MetricsLog(folder.metrics, length=store.length)
    tracker.open()
    for step in range(40, 80):
        metrics.write(step=step, epoch=step // 30, values={"train/loss": 1.0 / (step + 1)})
    write_json(folder.summary, {"status": "completed"})
    tracker.end()
    tracker.close()

    run = store.run_of("died")
    assert run.info.run_id == before.info.run_id
    assert (run.info.status, run.data.tags["mltrain.status"]) == ("FINISHED", "completed")
    assert history(store, run, "train/loss") == [(step, 1.0 / (step + 1)) for step in range(80)]
    assert history(store, run, "epoch") == [(0, 0.0), (30, 1.0), (60, 2.0)]
    assert run.data.params == {**before.data.params, "model.added": "true"}
    assert run.data.tags["resumed.optimizer.lr"] == "0.01"
    assert [name for name in run.data.tags if name.startswith("resumed.")] == ["resumed.optimizer.lr"]
    assert not any(name.startswith("privacy.") for name in run.data.tags), "what it claimed before is too small by now"
    assert len(run.inputs.dataset_inputs) == 1


def test_an_unreachable_server_is_told_once_while_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = new_run(tmp_path, "run")
    tracker = tracker_of(folder, "http://me:secret@127.0.0.1:9")
    with captured_log() as messages:
        tracker.open()

        def is_told():
            tracker.log({"step": 1, "epoch": 0, "time": 0.0})
            return messages

        wait_for(is_told)
        tracker.end()
        tracker.close()
    refused = "ConnectionRefusedError: [Errno 111] Connection refused"
    assert messages == [
        f"MLflow at http://me:***@127.0.0.1:9 does not take the run: {refused}. "
        "Training goes on, and so do the attempts.",
        f"MLflow at http://me:***@127.0.0.1:9 has not taken everything: {refused}.",
    ]
    assert tracker.describe() == "MLflow: not complete; send the rest with mltrain sync runs/run"
    assert "secret" not in log_of(folder)


@pytest.mark.slow
def test_a_follower_that_is_slow_goes_on_in_the_background(tmp_path):
    folder = new_run(tmp_path, "run")
    tracker = tracker_of(folder, f"sqlite:///{tmp_path}/mlflow.db", finish_timeout_s=0.0)
    tracker.open()
    write_json(folder.summary, {"status": "completed"})
    with captured_log() as messages:
        tracker.end()
        tracker.close()
    assert len(messages) == 1
    assert "goes on in the background" in messages[0]
    assert "mltrain sync" in tracker.describe()
    wait_for(lambda: "is complete" in log_of(folder))


def test_a_follower_that_does_not_start_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    tracker = tracker_of(new_run(tmp_path, "run"), f"sqlite:///{tmp_path}/mlflow.db")
    with captured_log() as messages:
        tracker.open()
        tracker.end()
        tracker.close()
    assert len(messages) == 1
    assert "MLflow is not fed" in messages[0]
    assert "mltrain sync" in tracker.describe()


def test_people_are_told_how_to_look(tmp_path, monkeypatch):
    folder = new_run(tmp_path, "a run")
    tracker = tracker_of(folder, f"sqlite:///{tmp_path}/a b.db")
    monkeypatch.chdir(tmp_path)
    assert tracker.describe() == "MLflow: mltrain ui 'runs/a run'"
    monkeypatch.chdir("/")
    assert tracker.describe() == f"MLflow: mltrain ui '{folder.path.relative_to('/')}'"
    monkeypatch.chdir(folder.path)
    assert tracker.describe() == "MLflow: mltrain ui ."


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "sqlite:///mlflow.db",
        "sqlite:////a/b.db",
        "postgresql+psycopg2://me:secret@host/db",
        "http://localhost:5000",
        "https://host/mlflow",
        "databricks",
        "databricks://profile",
    ],
)
def test_addresses_that_may_be_a_store(uri):
    TRACKERS.get("mlflow").check({"tracking_uri": uri})


@pytest.mark.parametrize(
    "uri",
    ["foo://host", "localhost:5000", "mlruns", "./mlruns", "file:///tmp/mlruns", "http://", "http:/host", "sqlite"],
)
def test_addresses_that_can_be_no_store_are_refused(uri, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(ConfigError, match=r"^tracking\.mlflow\.tracking_uri: .*is no address of an MLflow store"):
        TRACKERS.get("mlflow").check({"tracking_uri": uri})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        TRACKERS.get("mlflow").check({"tracking_uri": None})


def test_a_refused_address_shows_no_password():
    with pytest.raises(ConfigError) as caught:
        TRACKERS.get("mlflow").check({"tracking_uri": "foo://me:secret@host"})
    assert "secret" not in str(caught.value)


def test_folders_of_files_are_stores_where_mlflow_takes_them(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for uri in ("mlruns", "./mlruns", "file:///tmp/mlruns"):
        TRACKERS.get("mlflow").check({"tracking_uri": uri})
