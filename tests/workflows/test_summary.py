"""The summary in both forms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from mltrain.core.run_folder import create_run_folder
from mltrain.workflows.summary import summary_text, write_summary

SUMMARY: dict[str, Any] = {
    "status": "completed",
    "reason": "",
    "run_name": "ants_fold_0",
    "task": "image_classification",
    "trainer": "standard",
    "num_processes": 2,
    "num_epochs": 5,
    "epochs": 3,
    "steps": 21,
    "samples_seen": 150,
    "best": {"metric": "val/accuracy", "value": 0.9375, "epoch": 2, "step": 14},
    "train": {"loss": 0.25, "accuracy": 1},
    "test": {"loss": 0.5},
    "model_digest": "ab12",
    "timing": {"total_s": 12.34, "train_s": 10.0, "samples_per_s": 15.0, "data_wait_s": 0.05},
}


def test_the_text_for_people() -> None:
    assert summary_text(SUMMARY).splitlines() == [
        "run          ants_fold_0",
        "status       completed",
        "task         image_classification",
        "trainer      standard, 2 process(es)",
        "trained      3 of 5 epochs, 21 steps, 150 samples",
        "best         val/accuracy 0.9375 in epoch 2, step 14",
        "train        loss 0.2500, accuracy 1.0000",
        "test         loss 0.5000",
        "model        sha256 ab12",
        "time         12.3 s, training 10.0 s at 15 samples/s, waiting for data 0.1 s",
    ]


CLAIM = {"epsilon": 2.98, "delta": 1e-5, "accountant": "prv", "steps": 600, "void": None}


@pytest.mark.parametrize(
    ("patterns", "claim", "line"),
    [
        (["*"], {}, "epsilon 2.98 at delta 1e-05 (prv), 600 steps; metrics are not private"),
        (["*", "!test/*"], {}, "epsilon 2.98 at delta 1e-05 (prv), 600 steps; train metrics are not private"),
        ([], {}, "epsilon 2.98 at delta 1e-05 (prv), 600 steps"),
        (["*"], {"epsilon": None, "void": "No noise."}, "VOID: No noise; metrics are not private"),
    ],
)
def test_a_claim_of_privacy_is_one_line(patterns: list[str], claim: dict[str, Any], line: str) -> None:
    text = summary_text({**SUMMARY, "non_private": patterns, "privacy": {**CLAIM, **claim}})
    assert f"privacy      {line}\n" in text


def test_figures_of_privacy_are_rounded_up_and_its_samples_are_an_expectation() -> None:
    claim = {**CLAIM, "epsilon": 2.98011, "delta": 0.000233612}
    text = summary_text({**SUMMARY, "non_private": ["*"], "privacy": claim})
    assert "epsilon 2.981 at delta 0.0002337 (prv)" in text
    assert "21 steps, about 150 samples\n" in text


def test_the_weights_that_were_packed_are_named() -> None:
    lines = summary_text({**SUMMARY, "weights": "after the last step"}).splitlines()
    assert lines[6] == "weights      after the last step"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"checkpointing.selection": "last"}, "after the last step"),
        ({"checkpointing.selection": "last", "training.ema.enabled": True}, "after the last step, averaged (EMA)"),
        ({}, "of the best checkpoint"),
    ],
)
def test_which_weights_a_run_packed(train_vectors: Any, settings: dict[str, Any], told: str) -> None:
    result = train_vectors({"training.num_epochs": 1, **settings})
    assert result.summary["weights"] == told
    assert f"weights      {told}\n" in (Path(result.folder) / "summary.txt").read_text()


def test_an_interrupted_run_says_that_its_metrics_are_not_private() -> None:
    interrupted = {name: value for name, value in SUMMARY.items() if name not in ("train", "test")}
    assert "600 steps; metrics are not private\n" in summary_text(
        {**interrupted, "non_private": ["*"], "privacy": CLAIM}
    )


def test_a_run_that_failed_early_has_a_text_as_well() -> None:
    failed = {**SUMMARY, "status": "failed", "reason": "KeyError: 'x'", "best": None, "model_digest": None}
    lines = summary_text({key: value for key, value in failed.items() if key not in ("train", "test")}).splitlines()
    assert lines[1] == "status       failed (KeyError: 'x')"
    assert [line.split()[0] for line in lines] == ["run", "status", "task", "trainer", "trained", "time"]


def test_both_files_and_numbers_that_are_not_finite() -> None:
    folder = create_run_folder(Path("runs"), "a", numbered=False)
    best = {**SUMMARY["best"], "value": math.nan}
    odd = {"loss": math.inf, "accuracy": math.nan, "per_class": [0.5, -math.inf]}
    write_summary(folder, {**SUMMARY, "train": {"loss": math.inf}, "best": best, "extra": odd})
    read = json.loads(folder.summary.read_text())
    assert read["extra"] == {"loss": None, "accuracy": None, "per_class": [0.5, None]}
    assert read["best"]["value"] is None
    assert read["timing"] == SUMMARY["timing"]
    text = folder.summary_text.read_text()
    assert "best         val/accuracy not finite in epoch 2, step 14\n" in text
    assert "train        loss not finite\n" in text


def test_a_second_summary_replaces_the_first() -> None:
    folder = create_run_folder(Path("runs"), "a", numbered=False)
    write_summary(folder, {**SUMMARY, "status": "interrupted"})
    write_summary(folder, SUMMARY)
    assert json.loads(folder.summary.read_text())["status"] == "completed"
    assert "interrupted" not in folder.summary_text.read_text()
