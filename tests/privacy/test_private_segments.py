"""What private runs say of themselves when they begin, are continued, and have lost what they are counted by."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mltrain.core.errors import CheckpointError, ConfigError
from mltrain.core.files import read_json, write_json
from mltrain.core.seeding import stream_key
from mltrain.tracking.metrics_log import read_metrics
from mltrain.trainers import private_checks
from mltrain.trainers.dp import DPTrainer

STEPS_AN_EPOCH = 7


pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "training.trainer_type": "dp",
        "training.dp": {"accountant": "rdp", "grad_sample_mode": "hooks", "noise_multiplier": 2.0},
        "training.num_epochs": 1,
        "tracking.log_every_n_steps": 2,
        "tracking.system_metrics.enabled": False,
        "run.dir": str(tmp_path),
        "run.name": "it",
    }


def continued(train_vectors: Any, run: Path, **overrides: Any) -> Any:
    keys = {key.replace("__", "."): value for key, value in overrides.items()}
    return train_vectors({"training.num_epochs": 2, **keys}, config=None, resume=run)


def statement(run: Path) -> dict[str, Any]:
    facts: dict[str, Any] = read_json(run / "reports" / "privacy.json")
    return facts


def test_masks_of_dropout_are_secret(
    train_vectors: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were they to follow from the seed, an example would be told by the masks of those that come after it."""
    keys: list[int] = []
    usual = DPTrainer.begin
    monkeypatch.setattr(DPTrainer, "begin", lambda self: (keys.append(self.random_key("steps")), usual(self)))
    for name in ("one", "two"):
        train_vectors({**settings, "run.name": name})
    dp = settings["training.dp"] | {"reproducible": True}
    train_vectors({**settings, "run.name": "three", "training.dp": dp})
    public = stream_key(42, "steps")
    assert keys[0] != keys[1]
    assert public not in keys[:2]
    assert keys[2] == public


def test_a_statement_is_there_before_the_first_step_for_the_most_there_may_be(
    train_vectors: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[dict[str, Any]] = []
    usual = DPTrainer.begin
    monkeypatch.setattr(DPTrainer, "begin", lambda self: (usual(self), said.append(statement(tmp_path / "it"))))
    run = train_vectors({**settings, "training.num_epochs": 3}).folder
    assert said[0]["state"] == "under way"
    assert said[0]["steps"] == 3 * STEPS_AN_EPOCH == statement(run)["steps"]
    assert statement(run)["state"] == "ended"


def test_a_lost_ledger_is_an_error_and_the_statement_stays(train_vectors: Any, settings: dict[str, Any]) -> None:
    run = train_vectors(settings).folder
    before = statement(run)
    (run / "privacy_ledger.jsonl").unlink()
    for without_checkpoints in (False, True):
        if without_checkpoints:
            shutil.rmtree(run / "checkpoints")
            (run / "checkpoints").mkdir()
        with pytest.raises(CheckpointError, match=r"privacy_ledger.jsonl: is missing: what this run has spent"):
            continued(train_vectors, run)
        assert statement(run) == before
        assert not (run / "privacy_ledger.jsonl").exists()


def test_a_ledger_behind_the_checkpoint_is_an_error_and_the_statement_stays(
    train_vectors: Any, settings: dict[str, Any]
) -> None:
    run = train_vectors(settings).folder
    before, ledger = statement(run), run / "privacy_ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(CheckpointError, match="counts 5 steps, and the checkpoint 7"):
        continued(train_vectors, run)
    assert statement(run) == before
    assert read_json(run / "summary.json")["privacy"]["epsilon"] >= before["epsilon"]


def test_the_ledger_of_another_run_is_an_error(train_vectors: Any, settings: dict[str, Any]) -> None:
    run = train_vectors(settings).folder
    dp = settings["training.dp"] | {"noise_multiplier": 9.0}
    other = train_vectors({**settings, "run.name": "other", "training.dp": dp}).folder
    shutil.copy(other / "privacy_ledger.jsonl", run / "privacy_ledger.jsonl")
    with pytest.raises(CheckpointError, match="is of another run"):
        continued(train_vectors, run)


def test_decisions_of_earlier_segments_are_not_forgotten(train_vectors: Any, settings: dict[str, Any]) -> None:
    dp = settings["training.dp"] | {"accept_selection_leak": True}
    run = train_vectors({**settings, "training.dp": dp, "scheduler.name": "plateau"}).folder
    assert statement(run)["selection"]["waiver_used"]
    changes = {"scheduler__name": "none", "training__dp__accept_selection_leak": False}
    continued(train_vectors, run, **changes)
    facts = statement(run)
    assert facts["selection"]["decided_by_private_values"] == {"the learning rate": "val/loss"}
    assert facts["selection"]["waiver_used"]
    assert facts["segments"] == 2
    assert facts["steps"] == 2 * STEPS_AN_EPOCH


def test_a_learning_rate_that_private_values_choose_is_not_private(
    train_vectors: Any, settings: dict[str, Any]
) -> None:
    dp = settings["training.dp"] | {"accept_selection_leak": True}
    run = train_vectors({**settings, "training.dp": dp, "scheduler.name": "plateau"}).folder
    records = [record for record in read_metrics(run / "metrics.jsonl") if "train/lr" in record]
    assert records
    assert all("train/lr" in record["non_private"] for record in records)


def test_a_target_below_what_is_spent_is_an_error(train_vectors: Any, settings: dict[str, Any]) -> None:
    run = train_vectors(settings).folder
    spent = statement(run)["epsilon"]
    with pytest.raises(ConfigError, match=r"training.dp.target_epsilon: is .*, and this run has spent .* in 7 steps"):
        continued(train_vectors, run, training__dp__target_epsilon=0.9 * spent)
    assert statement(run)["epsilon"] == spent


def test_weights_of_a_run_on_the_same_data_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "metadata.json", {"data": {"digest": "abc"}})
    (tmp_path / "model").mkdir()
    config: Any = SimpleNamespace(model=SimpleNamespace(weights=str(tmp_path / "model")))
    for digest, is_refused in (("abc", True), ("other", False)):
        task: Any = SimpleNamespace(data_facts=lambda digest=digest: {"digest": digest})
        if is_refused:
            with pytest.raises(ConfigError, match="comes from a run on the same data"):
                private_checks._check_initial_weights(config, task)
        else:
            private_checks._check_initial_weights(config, task)
