"""Spans on real messages, from the start: exact match on held-out rows; both tasks at once no worse than either alone.

Ready configurations on simulated messages train as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SHARED_DATA

import mltrain
from mltrain.workflows.split_rows import split_rows

QUIET = {"tracking.mlflow.enabled": False, "tracking.system_metrics.enabled": False, "reproducibility.num_threads": 1}


def train(name: str, overrides: dict[str, Any]) -> Any:
    return mltrain.train(ROOT / "configs" / f"{name}.yaml", {**QUIET, **overrides}, verbose=False)


@pytest.fixture
def evidence() -> None:
    """The folder that the configurations name, below the test's own folder."""
    table = SHARED_DATA / "sms_evidence.csv"
    if not table.is_file():
        pytest.skip(f"real messages are not at {table}")
    Path("data/sms_evidence").mkdir(parents=True)
    shutil.copy(table, "data/sms_evidence")
    split_rows(Path("data/sms_evidence/sms_evidence.csv"), label="label", content=["text"], folds=5)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.usefixtures("evidence", "quick_reports")
def test_both_at_once_are_no_worse_than_either_alone() -> None:
    """Two points of 100 are allowed for."""
    both = train("sms_evidence_joint", {}).summary["test"]
    span = train("sms_evidence_span", {}).summary["test"]
    label = train("sms_evidence_label", {}).summary["test"]
    assert span["exact_match_answered"] >= 0.75
    assert both["span_exact_match_answered"] >= span["exact_match_answered"] - 0.02
    assert both["span_exact_match"] >= span["exact_match"] - 0.02
    assert both["classification_f1"] >= label["f1"] - 0.02


@pytest.mark.slow
@pytest.mark.usefixtures("quick_reports")
def test_configurations_on_simulated_messages() -> None:
    mltrain.make_data("messages", Path("data/messages"))
    split_rows(Path("data/messages/messages.csv"), label="label", content=["text"], folds=5)
    span, both = train("span_messages", {}).summary["test"], train("joint_messages", {}).summary["test"]
    assert span["exact_match_answered"] > 0.7
    assert min(both["span_exact_match_answered"], both["classification_f1"]) > 0.7
