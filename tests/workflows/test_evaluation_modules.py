"""`evaluation.metrics` in runs: figures logged and monitored, the same after a resume, refused where they cannot be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from runs import history

from mltrain.cli.main import main

pytestmark = pytest.mark.usefixtures("quick_reports")

PLUGIN = str(ROOT / "tests" / "support" / "scored_task.py")
CODE = """import datasets
import evaluate


class Agreement(evaluate.Metric):
    def _info(self):
        columns = {"predictions": datasets.Value("KIND"), "references": datasets.Value("KIND")}
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=datasets.Features(columns)
        )

    def _compute(self, predictions, references):
        near = [abs(one - other) < 0.5 for one, other in zip(predictions, references)]
        return {"agreement": sum(near) / len(near), "seen": len(near)}
"""


@pytest.fixture(autouse=True)
def _module() -> None:
    for name, kind in (("agreement", "int64"), ("nearness", "float64")):
        Path(name).mkdir()
        Path(name, f"{name}.py").write_text(CODE.replace("KIND", kind))


@pytest.fixture
def base(vectors: dict[str, Any]) -> dict[str, Any]:
    return {**vectors, "task": "scored_vectors", "plugins": [PLUGIN], "evaluation": {"metrics": ["./agreement"]}}


def test_from_the_command_line(base: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("it.yaml").write_text(yaml.safe_dump(base))
    monitored = ["checkpointing.monitor=val_agreement", "checkpointing.mode=max", "early_stopping.enabled=true"]
    stopping = ["early_stopping.monitor=val_seen", "early_stopping.mode=max", "early_stopping.patience=1"]
    assert main(["train", "--config", "it.yaml", *monitored, *stopping, "run.name=it"]) == 0
    rows = [row for row in history(Path("runs/it")) if "val/agreement" in row]
    assert len(rows) == 2  # `seen` does not improve
    for row in rows:
        assert (row["train/seen"], row["val/seen"]) == (50, 21)
        for split in ("train", "val"):
            assert row[f"{split}/agreement"] == pytest.approx(row[f"{split}/accuracy"])
            assert 0 <= row[f"{split}/auroc"] <= 1
    assert "agreement" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "module"),
    [
        ("scored_vectors", "./agreement"),
        pytest.param("measured_vectors", "./nearness", marks=pytest.mark.slow),
    ],
)
def test_stopped_in_mid_epoch_and_resumed_equals_straight(
    base: dict[str, Any], train_vectors: Any, task: str, module: str
) -> None:
    config = {**base, "task": task, "evaluation": {"metrics": [module]}, "checkpointing": {"every_n_steps": 3}}
    straight = train_vectors({"run.dir": "straight"}, config=config)
    stopped = train_vectors({"callbacks": {"stop_at": {"step": 5}}}, config=config)
    assert stopped.summary["status"] == "interrupted"
    resumed = train_vectors({"callbacks": {}}, config=None, resume=stopped.folder)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)
    assert all(row["train/seen"] == 50 for row in history(resumed.folder) if "train/seen" in row)


@pytest.mark.slow
def test_a_module_added_in_mid_epoch_sees_the_rest(base: dict[str, Any], train_vectors: Any) -> None:
    stopped = train_vectors({"callbacks": {"stop_at": {"step": 5}}, "evaluation.metrics": []}, config=base)
    resumed = train_vectors(
        {"callbacks": {}, "evaluation.metrics": ["./agreement"]}, config=None, resume=stopped.folder
    )
    seen = [row["train/seen"] for row in history(resumed.folder) if "train/seen" in row]
    assert seen == [50 - 5 * 8, 50, 50]


@pytest.mark.slow
def test_without_modules_a_run_is_what_it_was(base: dict[str, Any], train_vectors: Any) -> None:
    digests = {
        train_vectors({"task": task, "evaluation.metrics": metrics}, config=base).summary["model_digest"]
        for task, metrics in (("scored_vectors", []), ("scored_vectors", ["./agreement"]), ("vectors", []))
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "vectors"}, "evaluation.metrics: vectors has no predictions for evaluate modules."),
        ({"evaluation.metrics": ["./nowhere"]}, "evaluation.metrics: no file 'nowhere/nowhere.py'."),
        ({"evaluation.metrics": "./agreement"}, "evaluation.metrics"),
        ({"checkpointing.monitor": "val_agreemant", "checkpointing.mode": "max"}, "Did you mean val_agreement?"),
        ({"evaluation.metrics": ["./losing"]}, "a module gives a figure 'loss', which the task has as well"),
    ],
    ids=str,
)
def test_refused_before_anything_is_made(
    base: dict[str, Any], change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("losing").mkdir()
    Path("losing", "losing.py").write_text(CODE.replace("KIND", "int64").replace('"agreement"', '"loss"'))
    Path("it.yaml").write_text(yaml.safe_dump(base))
    arguments = [f"{key}={yaml.safe_dump(value, default_flow_style=True).strip()}" for key, value in change.items()]
    arguments = [argument.removesuffix("\n...") for argument in arguments]
    assert main(["train", "--config", "it.yaml", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_split_of_one_class_stops_nothing(base: dict[str, Any], train_vectors: Any) -> None:
    """A monitor of the area under the curve meets NaN where validation has one example."""
    change = {"data.val_size": 1, "checkpointing.monitor": "val_auroc", "checkpointing.mode": "max"}
    stopping = {"early_stopping.enabled": True, "early_stopping.monitor": "val_auroc", "early_stopping.mode": "max"}
    result = train_vectors({**change, **stopping, "scheduler.name": "plateau"}, config=base)
    assert result.summary["status"] == "completed"
    rows = [row for row in history(result.folder) if "val/auroc" in row]
    assert [row["val/auroc"] for row in rows] == [None] * 3
    assert not math.isnan(rows[0]["val/accuracy"])
