"""`mltrain sync`: from a run folder alone to what each tracker lacks."""

import shutil

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mltrain.cli.main import main
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json, write_json
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.metrics_log import read_metrics
from mltrain.workflows.sync import sync

PLUGIN = """
from mltrain.tracking.base import Tracker, register_tracker

@register_tracker("plain")
class Plain(Tracker):
    def synchronize(self):
        return f"taught {self.settings['what']}"
"""


@pytest.fixture(scope="module")
def trained(train_vectors, tmp_path_factory):
    """A run that no tracker saw."""
    return train_vectors({"run.dir": str(tmp_path_factory.mktemp("trained"))}).folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it of one's own."""
    return RunFolder(shutil.copytree(trained, tmp_path / "runs" / "mine"))


def logged(folder):
    return sorted(
        (name, record["step"])
        for record in read_metrics(folder.metrics)
        for name, value in record.items()
        if name not in ("step", "epoch", "time") and value is not None
    )


def held(folder):
    """What MLflow has of the run."""
    address = read_json(folder.tracking / "mlflow.json")
    client = MlflowClient(tracking_uri=address["tracking_uri"])
    (tracked,) = client.search_runs([address["experiment_id"]])
    points = [
        (name, point.step)
        for name in tracked.data.metrics
        for point in client.get_metric_history(tracked.info.run_id, name)
        if name != "epoch"
    ]
    return tracked, sorted(points)


def test_a_run_is_sent_whole_and_once(run, tmp_path, capsys):
    uri = f"sqlite:///{tmp_path}/store.db"
    command = ["sync", str(run.path), "--to", "mlflow", "--to", "tensorboard", "--tracking_uri", uri]
    assert main(command) == 0
    tracked, points = held(run)
    assert points == logged(run)
    assert (tracked.info.status, tracked.data.tags["mltrain.status"]) == ("FINISHED", "completed")
    assert main(command) == 0
    again, points = held(run)
    assert points == logged(run)
    assert again.info.run_id == tracked.info.run_id
    accumulator = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0}).Reload()
    written = [(name, event.step) for name in accumulator.Tags()["scalars"] for event in accumulator.Scalars(name)]
    assert sorted(written) == logged(run)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(". ")[0].removeprefix(f"{run.path}: ") for line in lines] == [
        f"mlflow: {len(points) + 4} values sent to {uri}",  # the epoch where it changes: 0, 1, 2, 3
        f"tensorboard: written anew with {len(points)} values",
        "mlflow: nothing was missing",
        f"tensorboard: written anew with {len(points)} values",
    ]


@pytest.mark.parametrize("written", [True, False])
def test_a_run_that_was_killed_is_sent_as_failed(run, tmp_path, written):
    if written:  # as each segment does when it begins
        write_json(run.summary, {**read_json(run.summary), "status": "running", "finished": None})
    else:
        run.summary.unlink()
    (result,) = sync([run.path], tracking_uri=f"sqlite:///{tmp_path}/store.db")
    assert result.error is None
    tracked, points = held(run)
    assert (tracked.info.status, tracked.data.tags["mltrain.status"]) == ("FAILED", "died")
    assert points == logged(run)


def test_a_store_that_is_away_is_one_line_and_keeps_no_other_from_being_sent(run, capsys):
    command = ["sync", str(run.path), "--to", "mlflow", "--to", "tensorboard"]
    assert main([*command, "--tracking_uri", "http://127.0.0.1:9"]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"error: {run.path}: mlflow: MLflow at http://127.0.0.1:9 has not taken everything: "
        "ConnectionRefusedError: [Errno 111] Connection refused"
    ]
    assert "written anew" in out
    assert not (run.tracking / "mlflow.json").exists()


def test_a_run_that_is_being_trained_is_refused_and_the_next_one_sent(run, trained, tmp_path):
    other = RunFolder(shutil.copytree(trained, tmp_path / "runs" / "other"))
    with run.lock():
        refused, sent = sync([run.path, other.path], to=["tensorboard"])
    assert "another process is writing into this run folder" in str(refused.error)
    assert (sent.run, sent.error) == (str(other.path), None)
    assert not run.tensorboard.exists()


def test_only_what_the_run_enables_is_sent(run):
    assert list(sync([run.path])) == []


def test_a_tracker_of_a_plugin_is_asked(run, tmp_path):
    (tmp_path / "plain.py").write_text(PLUGIN)
    text = run.config.read_text().replace("others: {}", "others: {plain: {what: much}}")
    run.config.write_text(text.replace("plugins:", f"plugins:\n- {tmp_path}/plain.py"))
    assert [(result.tracker, result.text) for result in sync([run.path])] == [("plain", "taught much")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--to", "mlflw"], "unknown tracker 'mlflw'. Did you mean 'mlflow'?"),
        (["--tracking_uri", "foo://bar"], "'foo://bar' is no address of an MLflow store"),
        (["--to", "wandb", "--tracking_uri", "sqlite:///a.db"], "--tracking_uri: is for MLflow alone"),
    ],
)
def test_what_cannot_be_meant_is_told(run, arguments, told, capsys):
    assert main(["sync", str(run.path), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_folder_that_is_no_run_is_told(tmp_path):
    (result,) = sync([tmp_path])
    assert "not a run folder" in str(result.error)


def test_a_damaged_configuration_is_told(run):
    run.config.write_text("tracking: {mlflow: {enabled: perhaps}}\n")
    (result,) = sync([run.path])
    assert "tracking.mlflow.enabled" in str(result.error)


def test_a_wrong_address_is_refused_before_training(train_vectors, tmp_path):
    settings = {"tracking.mlflow.enabled": True, "tracking.mlflow.tracking_uri": "foo://bar", "run.dir": "never"}
    with pytest.raises(ConfigError, match=r"tracking\.mlflow\.tracking_uri: 'foo://bar'"):
        train_vectors(settings)
    assert not (tmp_path / "never").exists()
