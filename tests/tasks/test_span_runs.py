"""Whole runs of span_extraction and joint: resumed, cut otherwise, under each trainer, and packed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import history, largest_difference, weights
from span_tables import span_config, span_rows, write_span_table

import mltrain
from mltrain.core.errors import DataError
from mltrain.workflows import session

pytestmark = pytest.mark.usefixtures("quick_reports")


@pytest.fixture(scope="module", params=[pytest.param("span_extraction", marks=pytest.mark.slow), "joint"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The configuration of a task on 60 rows, and a run of it that nothing disturbed."""
    folder = tmp_path_factory.mktemp(request.param)
    write_span_table(folder / "texts.csv", span_rows(60))
    config = span_config(folder, request.param)
    if request.param == "joint":
        config["model"]["loss_weights"] = "uncertainty"
    config["data"]["length_bucketing"] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_curves", lambda *_, **__: None)
        return config, mltrain.train(config, {}, verbose=False)


def test_stopped_and_resumed_has_the_same_bits(setting: Any) -> None:
    config, straight = setting
    stopped = mltrain.train(config, {"callbacks": {"stop_at": {"step": 7}}}, verbose=False)
    assert (stopped.summary["status"], stopped.summary["steps"]) == ("interrupted", 7)
    resumed = mltrain.train(None, {"callbacks": {}}, resume=stopped.folder, verbose=False)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)
    assert resumed.summary["test"] == straight.summary["test"]


def test_accelerate_and_workers_give_the_same_bits(setting: Any) -> None:
    config, straight = setting
    other = mltrain.train(config, {"training.trainer_type": "accelerate", "data.num_workers": 1}, verbose=False)
    assert other.summary["model_digest"] == straight.summary["model_digest"]
    assert other.summary["test"] == straight.summary["test"]


@pytest.mark.slow
def test_every_cut_of_a_window_gives_one_gradient(setting: Any) -> None:
    config, _ = setting
    still = {
        "model.options.hidden_dropout_prob": 0.0, "model.options.attention_probs_dropout_prob": 0.0,
        "optimizer.name": "sgd", "optimizer.lr": 0.1, "scheduler.name": "none", "training.max_grad_norm": None,
        "checkpointing.selection": "last", "training.num_epochs": 1,
    }  # fmt: skip
    if config["task"] == "joint":
        still["model.head_dropout"] = 0.0
    found = [
        weights(
            mltrain.train(
                config,
                {**still, "training.batch_size": size, "training.gradient_accumulation_steps": 8 // size},
                verbose=False,
            ).folder
        )
        for size in (8, 2)
    ]
    assert largest_difference(*found) < 2e-6


@pytest.mark.slow
def test_bfloat16_trains(setting: Any) -> None:
    config, straight = setting
    mixed = mltrain.train(config, {"training.trainer_type": "mixed_precision"}, verbose=False)
    assert mixed.summary["model_digest"] != straight.summary["model_digest"]
    assert largest_difference(weights(mixed.folder), weights(straight.folder)) < 0.1


@pytest.mark.slow
def test_private_training(setting: Any) -> None:
    config, straight = setting
    overrides = {
        "training.trainer_type": "dp",
        "training.dp": {"noise_multiplier": 1.0, "accountant": "rdp", "accept_fitted_leak": True},
        "data.length_bucketing": False, "training.num_epochs": 1,
    }  # fmt: skip
    private = mltrain.train(config, overrides, verbose=False)
    assert private.summary["status"] == "completed"
    assert largest_difference(weights(private.folder), weights(straight.folder)) > 1e-3
    assert mltrain.load_model(private.folder).predict([("how much", "win £500 now")])


def test_a_packed_model_answers_as_the_run_did(setting: Any) -> None:
    config, straight = setting
    packed = mltrain.load_model(straight.folder)
    rows = [row for row in span_rows(60) if row["part"] == "test"]
    found = packed.predict([(row["criterion"], row["text"]) for row in rows])
    for row, answer in zip(rows, found, strict=True):
        assert answer["answer"] == (row["text"][answer["start"] : answer["end"]] if answer["start"] >= 0 else "")
        assert 0 < answer["score"] <= 1
    right = [row["answer"] == answer["answer"] for row, answer in zip(rows, found, strict=True)]
    name = "exact_match" if config["task"] == "span_extraction" else "span_exact_match"
    assert sum(right) / len(right) == pytest.approx(straight.summary["test"][name])
    if config["task"] == "joint":
        named = [row["label"] == answer["class"] for row, answer in zip(rows, found, strict=True)]
        assert sum(named) / len(named) == pytest.approx(straight.summary["test"]["classification_accuracy"])
    assert packed.predict([]) == []
    assert str(config["data"]["data_dir"]) not in (straight.folder / "model" / "mltrain.json").read_text()
    with pytest.raises(DataError, match="the model reads pairs of texts"):
        packed.predict("win")


def test_reports_and_facts_are_written(setting: Any) -> None:
    config, straight = setting
    names = set(straight.summary["test"])
    if config["task"] == "span_extraction":
        assert {"loss", "exact_match", "f1", "exact_match_answered", "no_answer_accuracy"} <= names
    else:
        assert {"classification_loss", "span_loss", "classification_f1", "span_f1", "span_weight", "score"} <= names
        assert (straight.folder / "logs" / "classification_report_test.txt").is_file()
    assert torch.isfinite(torch.tensor([straight.summary["test"]["loss"]])).all()
    assert Path(straight.folder, "model", "tokenizer.json").is_file()
