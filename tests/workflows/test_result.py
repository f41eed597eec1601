"""What `train` and `run_training` take and give in Python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import VECTORS_PLUGIN
from runs import weights

import mltrain
from mltrain.config.overrides import dotted_overrides
from mltrain.core.errors import ConfigError, RunFolderError
from mltrain.core.logging import LogContext, log
from mltrain.tracking.metrics_log import MetricsLog, read_metrics
from mltrain.workflows.result import TrainResult


@pytest.fixture(scope="module")
def result(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_vectors({"run.dir": str(tmp_path_factory.mktemp("result"))})


def test_metrics_are_the_summary_flat(result: Any) -> None:
    assert result.status == "completed"
    for split in ("train", "val", "test"):
        for name, value in result.summary[split].items():
            assert result.metrics[f"{split}/{name}"] == value
    assert len(result.metrics) == sum(len(result.summary[split]) for split in ("train", "val", "test"))


def test_what_the_process_logs_after_a_run_has_no_place_in_it(result: Any) -> None:
    assert result.status == "completed"
    assert LogContext.text().strip() == ""


def test_history_holds_every_record(result: Any) -> None:
    records = read_metrics(result.folder / "metrics.jsonl")
    assert list(result.history.columns[:3]) == ["step", "epoch", "time"]
    assert len(result.history) == len(records)
    for (_, row), record in zip(result.history.iterrows(), records, strict=True):
        assert row.dropna().to_dict() == record


def test_history_leaves_out_the_marks_of_what_is_not_private(tmp_path: Path) -> None:
    metrics = MetricsLog(tmp_path / "metrics.jsonl", non_private=["train/*"])
    metrics.write(step=1, epoch=0, values={"train/loss": 0.5, "privacy/epsilon": 1.5})
    metrics.close()
    history = TrainResult({}, tmp_path, None, lambda: pytest.fail("no task is needed")).history
    assert list(history.columns) == ["step", "epoch", "time", "train/loss", "privacy/epsilon"]
    assert history["train/loss"].dtype == float


def test_the_model_of_a_task_that_cannot_unpack_is_rebuilt_by_it(result: Any) -> None:
    assert not result.model.training
    assert result.model is result.model
    for name, tensor in weights(result.folder).items():
        assert torch.equal(result.model.state_dict()[name], tensor)
    with pytest.raises(ConfigError, match="Call the module itself"):
        result.predict([1])


def test_it_is_shown_in_one_short_line(result: Any) -> None:
    text = repr(result)
    assert "\n" not in text
    assert "completed: 3 epoch(s), 21 steps" in text
    assert f"test/loss {result.metrics['test/loss']:.4f}" in text
    assert str(result.folder) in text


def test_an_interrupted_run_says_so(train_vectors: Any) -> None:
    stopped = train_vectors({"callbacks": {"stop_at": {"step": 4}}})
    assert (stopped.status, stopped.reason, stopped.metrics) == ("interrupted", "the test asked for it", {})
    assert "interrupted (the test asked for it)" in repr(stopped)
    assert len(stopped.history) > 0
    with pytest.raises(RunFolderError, match=r"was interrupted .* has no model yet.*resume="):
        _ = stopped.model


def test_a_run_resumed_when_it_is_complete_gives_its_model(result: Any, train_vectors: Any) -> None:
    again = train_vectors({}, config=None, resume=result.folder)
    assert again.metrics == result.metrics
    assert torch.equal(again.model.state_dict()["0.weight"], result.model.state_dict()["0.weight"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"config": 3}, "config: must be the path of a YAML file, or a dict, is 3"),
        ({"overrides": ["a=1"]}, r"overrides: must be a dict such as .* is \['a=1'\]"),
        ({"resume": 3}, 'resume: must be a path, or "auto", is 3'),
        (
            {"overrides": {"training": {"batch": 1}}},
            "overrides, training.batch: unknown key. Did you mean training.batch",
        ),
        ({"overrides": {"training.batch_size": 0}}, "overrides, training.batch_size: must be a whole number"),
        ({"config": None}, "config: no configuration"),
    ],
)
def test_a_mistake_is_told_in_one_line(train_vectors: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        train_vectors(arguments.pop("overrides", None), **arguments)
    assert "\n" not in str(caught.value)


def test_late_errors_name_file_and_line(vectors: dict[str, Any]) -> None:
    Path("it.yaml").write_text("optimizer:\n  name: adamwx\n" + yaml.safe_dump(vectors))
    with pytest.raises(ConfigError, match=r"it\.yaml:2, optimizer\.name: "):
        mltrain.train("it.yaml", verbose=False)


def test_nested_overrides_leave_the_other_keys_of_a_section() -> None:
    content = {"scheduler": {"name": "step", "gamma": 0.5}, "data": {"normalize": "none"}, "model": None}
    given = {
        "scheduler": {"name": "cosine"},
        "data": {"normalize": {"mean": [1]}, "fold": 2},
        "model": {"options": {"width": 3}},
        "callbacks": {},
        "run": {"tags": {"a.b": 1}},
        "training.ema": {"decay": 0.5},
        "seed": 1,
    }
    assert dotted_overrides(content, given) == {
        "scheduler.name": "cosine",
        "data.normalize": {"mean": [1]},
        "data.fold": 2,
        "model.options.width": 3,
        "callbacks": {},
        "run.tags": {"a.b": 1},
        "training.ema.decay": 0.5,
        "seed": 1,
    }


@pytest.mark.slow
def test_nested_overrides_train_as_dotted_ones_do(train_vectors: Any, result: Any) -> None:
    dotted = train_vectors({"training.num_epochs": 1, "model.dropout": 0.2})
    nested = train_vectors({"training": {"num_epochs": 1}, "model": {"dropout": 0.2}})
    assert nested.summary["model_digest"] == dotted.summary["model_digest"]
    assert nested.folder.name == f"{dotted.folder.name}_2"


@pytest.mark.slow
def test_the_log_is_shown_while_the_run_lasts_and_only_then(
    train_vectors: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers, propagate = list(log.handlers), log.propagate
    for _ in range(2):
        train_vectors({"training.num_epochs": 1}, verbose=True)
        assert capsys.readouterr().err.count("The run is in") == 1
    train_vectors({"training.num_epochs": 1})
    assert capsys.readouterr().err == ""
    assert (list(log.handlers), log.propagate) == (handlers, propagate)


def test_run_training_takes_the_name_of_a_ready_configuration(vectors: dict[str, Any]) -> None:
    Path("configs").mkdir()
    Path("configs/vectors.yaml").write_text(yaml.safe_dump(vectors))
    result = mltrain.run_training(
        name="vectors", num_epochs=1, batch_size=4, gradient_accumulation_steps=2, learning_rate=0.5, verbose=False
    )
    saved = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert saved["training"]["num_epochs"] == 1
    assert (saved["training"]["batch_size"], saved["training"]["gradient_accumulation_steps"]) == (4, 2)
    assert saved["optimizer"]["lr"] == 0.5
    same = mltrain.run_training(
        "configs/vectors.yaml", num_epochs=9, learning_rate=0.5, verbose=False,
        overrides={"training": {"num_epochs": 1, "batch_size": 4, "gradient_accumulation_steps": 2}},
    )  # fmt: skip
    assert same.summary["model_digest"] == result.summary["model_digest"]
    with pytest.raises(
        ConfigError, match=r"name: no configuration 'vector' in .*Did you mean 'vectors'\? There are: vec"
    ):
        mltrain.run_training("vector")
    with pytest.raises(ConfigError, match="name: must be a YAML file"):
        mltrain.run_training(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"run_training, training\.num_epochs: must be a whole number"):
        mltrain.run_training("vectors", num_epochs=0)


def test_the_package_of_a_plugin_names_its_file_and_never_runs_it(result: Any) -> None:
    packed = mltrain.load_model
    from mltrain.tasks.base import TASKS

    known = TASKS._items.pop("vectors")
    try:
        with pytest.raises(ConfigError, match=r"comes from a plugin.*load_model\(.*plugins=\['vectors_task\.py'\]\)"):
            packed(result.folder)
    finally:
        TASKS._items["vectors"] = known
    assert str(VECTORS_PLUGIN.parent) not in (result.folder / "model" / "mltrain.json").read_text()
    with pytest.raises(ConfigError, match=r"Add VectorTask\.unpack"):
        packed(result.folder, plugins=[str(VECTORS_PLUGIN)])
    assert any(getattr(module, "__file__", None) == str(VECTORS_PLUGIN) for module in sys.modules.values())
