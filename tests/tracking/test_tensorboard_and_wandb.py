"""Both against the real follower process and the real files: TensorBoard's event file, W&B's offline files."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_file import read_records, rows

from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json, write_json
from mltrain.core.run_folder import create_run_folder
from mltrain.tracking.base import TRACKERS
from mltrain.tracking.feeding import feed
from mltrain.tracking.metrics_log import NOT_VALUES, MetricsLog, read_metrics

CONFIG = """
task: image_classification
data: {data_dir: data/flowers, dataset_name: null, fold: 0}
optimizer: {name: adamw, lr: 0.001}
tracking: {mlflow: {tracking_uri: "http://me:secret@host"}}
run: {description: a first try, tags: {team: red}}
"""
NOTICE = "Not private: no privacy guarantee covers the values val/*."
API_KEY = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {"tensorboard": {}, "wandb": {"mode": "offline", "project": None, "entity": None}}

# A training process that is killed, with a forked loader process that outlives it.
TRAINER = """
import os, sys, time
from pathlib import Path
from mltrain.core.run_folder import open_run_folder
from mltrain.tracking.base import TRACKERS
from mltrain.tracking.metrics_log import MetricsLog

folder = open_run_folder(Path(sys.argv[1]))
for name in ("tensorboard", "wandb"):
    TRACKERS.get(name)(folder, {"mode": "offline", "finish_timeout_s": 60.0}).open()
metrics = MetricsLog(folder.metrics)
for step in range(60):
    if step == 40:
        length = metrics.length
    metrics.write(step=step, epoch=step // 30, values={"train/loss": 1.0 / (step + 1), "nothing": float("nan")})
loader = os.fork()
if loader == 0:
    time.sleep(120)
    os._exit(0)
print(loader, length, flush=True)
time.sleep(120)
"""


def new_run(project, name):
    folder = create_run_folder(project / "runs", name, numbered=False)
    folder.config.write_text(CONFIG)
    write_json(folder.metadata, {"git": {"commit": "0123abc"}, "command_line": "ml-train", "data": {"digest": "d"}})
    return folder


def wait_for(condition, *, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def log_of(folder, name):
    file = folder.tracking / f"{name}.log"
    return file.read_text() if file.exists() else ""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was killed after step 59 and continued from step 40 to 79."""
    folder = new_run(tmp_path_factory.mktemp("project"), "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", API_KEY)
        trainer = subprocess.Popen([sys.executable, "-c", TRAINER, folder.path], stdout=subprocess.PIPE, text=True)
        loader, length = map(int, trainer.stdout.readline().split())
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()
        try:
            wait_for(lambda: all("is complete" in log_of(folder, name) for name in SETTINGS))
        finally:
            os.kill(loader, signal.SIGKILL)
        killed = SimpleNamespace(
            events=events(folder), wandb=[read_file(path) for path in wandb_files(folder)],
            address=read_json(folder.tracking / "wandb.json"),
        )  # fmt: skip

        trackers = [TRACKERS.get(name)(folder, settings) for name, settings in SETTINGS.items()]
        metrics = MetricsLog(folder.metrics, length=length, non_private=["val/*"])
        write_json(folder.summary, {"status": "running", "non_private": ["val/*"]})
        for tracker in trackers:
            tracker.open()
        for step in range(40, 80):
            metrics.write(step=step, epoch=step // 30, values={"train/loss": 1.0 / (step + 1)})
        metrics.write(step=79, epoch=2, values={"val/accuracy": 0.75})
        pixels = np.zeros((5, 7, 3), np.uint8)
        pixels[1, 2] = 200
        Image.fromarray(pixels).save(folder.reports / "confusion_matrix_test.png")
        folder.summary_text.write_text("all is well\n")
        claim = {"epsilon": 2.5, "delta": 1e-5}
        write_json(folder.summary, {"status": "completed", "non_private": ["val/*"], "privacy": claim})
        for tracker in trackers:
            tracker.end()
        for tracker in trackers:
            tracker.close()
    return SimpleNamespace(folder=folder, killed=killed, trackers=dict(zip(SETTINGS, trackers, strict=True)))


def events(folder):
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    accumulator = EventAccumulator(str(folder.tensorboard), size_guidance=everything)
    return accumulator.Reload()


def scalars(accumulator):
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def logged(folder):
    values = defaultdict(list)
    for record in read_metrics(folder.metrics):
        for name in record.keys() - set(NOT_VALUES):
            if record[name] is not None:
                values[name].append((record["step"], pytest.approx(record[name], rel=1e-6)))
    return dict(values)


def wandb_files(folder):
    return sorted(folder.tracking.glob("wandb/offline-run-*/*.wandb"))


def read_file(path):
    return list(read_records(path))


def test_event_files_hold_what_was_logged_before_a_kill(run):
    assert [step for step, _ in scalars(run.killed.events)["train/loss"]] == list(range(60))
    (status,) = run.killed.events.Tensors("status/text_summary")
    assert status.tensor_proto.string_val == [b"died"]


def test_event_files_hold_each_value_once_after_a_resume(run):
    assert scalars(events(run.folder)) == logged(run.folder)
    assert [step for step, _ in logged(run.folder)["train/loss"]] == list(range(80))
    times = [event.wall_time for event in events(run.folder).Scalars("train/loss")]
    assert times == [record["time"] for record in read_metrics(run.folder.metrics) if "train/loss" in record]


def test_event_files_hold_the_figures_the_configuration_and_the_end(run):
    found = events(run.folder)
    (image,) = found.Images("reports/confusion_matrix_test")
    assert (image.height, image.width, image.step) == (5, 7, 79)
    assert image.encoded_image_string == (run.folder.reports / "confusion_matrix_test.png").read_bytes()
    texts = {
        name: found.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("config", "status", "summary")
    }
    assert "lr: 0.001" in texts["config"]
    assert "secret" not in texts["config"]
    assert texts["status"] == "completed"
    assert "all is well" in texts["summary"]


def test_event_files_describe_the_values_that_are_not_private(run):
    found = plugin_event_accumulator.EventAccumulator(str(run.folder.tensorboard)).Reload()  # as the pages read them
    described = {name: found.SummaryMetadata(name).summary_description for name in found.PluginTagToContent("scalars")}
    assert described == {"train/loss": "", "val/accuracy": "Not private: no privacy guarantee covers this value."}


def test_event_files_of_others_are_left_alone(tmp_path):
    folder = new_run(tmp_path, "run")
    folder.tensorboard.mkdir()
    own = folder.tensorboard / "events.out.tfevents.1.mine"
    own.write_bytes(b"")
    for _ in range(2):
        feed("tensorboard", folder, {"finish_timeout_s": 10.0}, wait=lambda seconds: "failed")
    assert own.exists()
    assert len(list(folder.tensorboard.iterdir())) == 2


def test_wandb_continues_one_run(run):
    first, second = [read_file(path) for path in wandb_files(run.folder)]
    ids = {record.run.run_id for record in [*first, *second] if record.HasField("run")}
    assert ids == {run.killed.address["id"]} == {read_json(run.folder.tracking / "wandb.json")["id"]}
    (about,) = (record.run for record in second if record.HasField("run"))
    assert (about.display_name, about.project, about.notes, list(about.tags)) == (
        "run", "flowers", f"a first try\n\n{NOTICE}", ["team:red"],
    )  # fmt: skip
    config = {update.key: update.value_json for update in about.config.update}
    assert json.loads(config["optimizer"]) == {"name": "adamw", "lr": 0.001}
    assert "tracking" not in config


def test_wandb_gets_each_value_once(run):
    sent = [row for path in wandb_files(run.folder) for row in rows(read_file(path))]
    for name in ("train/loss", "val/accuracy"):
        points = [(row["step"], row[name]) for row in sent if name in row]
        assert points == logged(run.folder)[name]
    assert [row["_step"] for row in sent] == list(range(len(sent)))
    assert not any("nothing" in row for row in sent)
    times = [row["_timestamp"] for row in sent if row.get("step") == 79 and "train/loss" in row]
    assert times == [record["time"] for record in read_metrics(run.folder.metrics)[-2:-1]]


def test_wandb_is_told_how_the_run_ended(run):
    def end_of(records):
        (end,) = (record.exit.exit_code for record in records if record.HasField("exit"))
        return end

    (killed,) = run.killed.wandb
    _, second = [read_file(path) for path in wandb_files(run.folder)]
    assert (end_of(killed), end_of(second)) == (1, 0)
    summary = {item.key: json.loads(item.value_json) for record in second for item in record.summary.update}
    claim = {"privacy.epsilon": "2.5", "privacy.delta": "1e-05", "privacy.non_private": "val/*"}
    assert {"status": "completed", **claim}.items() <= summary.items()
    (figure,) = (row for row in rows(second) if "reports/confusion_matrix_test/path" in row)
    assert figure["reports/confusion_matrix_test/width"] == 7


def test_no_secret_is_written(run):
    for path in run.folder.path.rglob("*"):
        if path.is_file() and path != run.folder.config:
            content = path.read_bytes()
            assert API_KEY.encode() not in content, path
            assert b"secret" not in content, path


def test_people_are_told_how_to_look(run, monkeypatch):
    monkeypatch.chdir(run.folder.path.parent.parent)
    assert [tracker.describe() for tracker in run.trackers.values()] == [
        "TensorBoard: tensorboard --logdir runs",
        "W&B: wandb sync runs/run/tracking/wandb/offline-run-*",
    ]


def test_feeding_wandb_again_begins_no_run(run):
    before = wandb_files(run.folder)
    settings = {**SETTINGS["wandb"], "finish_timeout_s": 10.0}
    assert feed("wandb", run.folder, settings, wait=lambda seconds: "ended") == 0
    assert wandb_files(run.folder) == before


def test_without_the_package_wandb_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r'tracking\.wandb\.enabled: .*pip install "mltrain\[wandb\]"'):
        TRACKERS.get("wandb").check({"mode": "offline"})


def test_the_environment_chooses_the_mode_where_the_configuration_does_not(tmp_path, monkeypatch):
    folder = new_run(tmp_path, "run")

    def mode(setting):
        return TRACKERS.get("wandb")(folder, {"mode": setting}).sink_settings()["mode"]

    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert (mode(None), mode("offline")) == ("online", "offline")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert (mode(None), mode("online")) == ("offline", "online")


def test_a_place_that_cannot_be_written_is_told_and_stops_nothing(tmp_path, caplog):
    folder = new_run(tmp_path, "run")
    folder.tensorboard.touch()
    tracker = TRACKERS.get("tensorboard")(folder, {"finish_timeout_s": 20.0})
    with contextlib.closing(tracker):
        tracker.open()
        tracker.log({"step": 1, "epoch": 0, "time": 0.0, "train/loss": 1.0})
        tracker.end()
    (record,) = caplog.records
    assert record.getMessage().startswith("TensorBoard has not taken everything: FileExistsError: ")
    assert "mltrain sync" in tracker.describe()
