import os
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from mltrain.core.files import read_json, write_json
from mltrain.core.run_folder import create_run_folder
from mltrain.tracking.base import TrackingError
from mltrain.tracking.feeding import _Tail, feed
from mltrain.tracking.follower import _TrainerPipe
from mltrain.tracking.metrics_log import MetricsLog
from mltrain.tracking.mlflow_run import entity_name


@pytest.fixture
def folder(tmp_path):
    folder = create_run_folder(tmp_path / "runs", "run", numbered=False)
    folder.config.write_text("task: image_classification\n")
    return folder


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


@pytest.mark.parametrize(("word", "state"), [(b"ended\n", "ended"), (b"failed\n", "failed"), (b"", "died")])
def test_the_last_word_of_the_training_process(pipe, word, state):
    reading, writing = pipe
    trainer = _TrainerPipe(reading, os.getppid())
    assert trainer.wait(0.0) == "running"
    os.write(writing, word)
    os.close(writing)
    assert trainer.wait(10.0) == state


def test_a_training_process_that_is_gone_has_died_unless_it_left_a_word(pipe):
    reading, writing = pipe
    trainer = _TrainerPipe(reading, trainer_pid=-1)
    assert trainer.wait(10.0) == "died"
    os.write(writing, b"ended\n")
    assert trainer.wait(10.0) == "ended"
    os.close(writing)


def test_tail_reads_each_whole_line_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = _Tail(path)
    assert (list(tail.records()), tail.was_cut()) == ([], False)
    path.write_bytes(b'{"step": 1}\n{"st')
    assert list(tail.records()) == [{"step": 1}]
    with path.open("ab") as stream:
        stream.write(b'ep": 2}\n')
    assert (list(tail.records()), list(tail.records()), tail.was_cut()) == ([{"step": 2}], [], False)


def test_tail_starts_again_when_the_file_was_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    tail = _Tail(path)
    assert len(list(tail.records())) == 2
    path.write_bytes(b'{"step": 1}\n')
    assert tail.was_cut()
    assert list(tail.records()) == [{"step": 1}]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("val/per class/Ärger", "val/per class/Ärger"),
        ("val/f1[a,b]", "val/f1_a_b_"),
        ("/a//../b/", "a/b"),
        ("..", "_"),
        ("n" * 300, "n" * 250),
    ],
)
def test_names_are_made_acceptable(name, taken):
    assert entity_name(name) == taken


def test_a_folder_can_be_fed_any_number_of_times(folder, tmp_path):
    uri = f"sqlite:///{tmp_path}/100% mine/mlflow.db"
    settings = {"tracking_uri": uri.replace("%", "%25"), "experiment": None, "finish_timeout_s": 20.0}
    metrics = MetricsLog(folder.metrics)
    for step in range(5):
        metrics.write(step=step, epoch=0, values={"train/loss": float(step)})
    length = metrics.length
    metrics.write(step=5, epoch=0, values={"train/loss": 5.0})

    def cut_and_grow_again():
        assert len(points()) == 6
        resumed = MetricsLog(folder.metrics, length=length)
        assert read_json(folder.tracking / "mlflow.json")["tracking_uri"] == settings["tracking_uri"]
        yield "running"
        for step in range(5, 8):
            resumed.write(step=step, epoch=0, values={"train/loss": float(step)})
        write_json(folder.summary, {"status": "completed"})
        yield "ended"

    def points():
        run_id = read_json(folder.tracking / "mlflow.json")["run_id"]
        history = MlflowClient(tracking_uri=settings["tracking_uri"]).get_metric_history(run_id, "train/loss")
        return [(point.step, point.value) for point in history]

    states = iter(["running"])
    rest = cut_and_grow_again()
    sent = feed("mlflow", folder, settings, wait=lambda seconds: next(states, None) or next(rest))
    assert sent == len(points()) + len(["epoch"])
    assert sorted(points()) == [(step, float(step)) for step in range(8)]

    assert feed("mlflow", folder, settings, wait=lambda seconds: "ended") == 0
    assert sorted(points()) == [(step, float(step)) for step in range(8)]
    client = MlflowClient(tracking_uri=settings["tracking_uri"])
    experiment = client.get_experiment_by_name("mltrain")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"

    # A run that was deleted in MLflow is written anew, whole.
    client.delete_run(run.info.run_id)
    feed("mlflow", folder, settings, wait=lambda seconds: "ended")
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.info.run_id != run.info.run_id
    assert len(points()) == 8


def test_a_run_can_be_in_several_stores(folder, tmp_path):
    MetricsLog(folder.metrics).write(step=1, epoch=0, values={"train/loss": 0.5})
    write_json(folder.summary, {"status": "completed"})
    stores = [{"tracking_uri": f"sqlite:///{tmp_path}/{name}.db", "finish_timeout_s": 20.0} for name in "ab"]
    sent = [feed("mlflow", folder, stores[index], wait=lambda seconds: "ended") for index in (0, 1, 0, 1)]
    assert sent == [2, 2, 0, 0]
    for store in stores:
        client = MlflowClient(tracking_uri=store["tracking_uri"])
        (run,) = client.search_runs([client.get_experiment_by_name("mltrain").experiment_id])
        assert run.info.status == "FINISHED"


def test_trouble_is_reported_when_it_begins_and_when_it_has_passed(folder, tmp_path):
    MetricsLog(folder.metrics).write(step=1, epoch=0, values={"train/loss": 0.5})
    folder.tensorboard.touch()

    def mended_after_two_attempts():
        yield from ("running", "running")
        folder.tensorboard.unlink()
        yield from ("running", "running", "failed")

    reports, states = [], mended_after_two_attempts()
    sent = feed(
        "tensorboard", folder, {"finish_timeout_s": 20.0}, wait=lambda seconds: next(states), report=reports.append
    )
    assert [report.partition(":")[0] for report in reports] == ["FileExistsError", ""]
    assert sent == 1


def test_a_store_that_cannot_be_made_is_told_in_one_line(folder, tmp_path):
    (tmp_path / "file").touch()
    settings = {"tracking_uri": f"sqlite:///{tmp_path}/file/mlflow.db", "experiment": "e", "finish_timeout_s": 0.0}
    with pytest.raises(TrackingError, match="File exists") as caught:
        feed("mlflow", folder, settings, wait=lambda seconds: "ended")
    assert "\n" not in str(caught.value)
    assert not (folder.tracking / "mlflow.json").exists()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        (
            "mltrain.tracking.mlflow_tracker, mltrain.tracking.tensorboard_tracker, mltrain.tracking.wandb_tracker",
            {"mlflow", "sqlalchemy", "tensorboard", "torch", "wandb", "yaml"},
        ),
        ("mltrain.tracking.follower, mltrain.tracking.mlflow_sink", {"mlflow", "tensorboard", "torch", "wandb"}),
        ("mltrain.tracking.mlflow_run, mltrain.tracking.mlflow_store", {"tensorboard", "torch", "wandb"}),
        ("mltrain.tracking.tensorboard_sink", {"mlflow", "tensorflow", "torch", "wandb"}),
        ("mltrain.tracking.wandb_sink", {"mlflow", "tensorboard", "torch"}),
    ],
)
def test_neither_process_imports_what_the_other_one_needs(module, absent):
    code = f"import sys, {module}; print(sorted({absent} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
