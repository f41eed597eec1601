"""Which values are not private: by patterns, in the metrics file, and in what a run folder says of itself."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.core.files import write_json
from mltrain.core.run_folder import create_run_folder
from mltrain.tracking.metrics_log import MetricsLog, is_measured, read_metrics
from mltrain.tracking.non_private import matcher, not_private_text
from mltrain.tracking.run_facts import read_facts, read_privacy

PATTERNS = ("*", "!train/lr", "!privacy/*", "privacy/raw_*")


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("train/loss", True),
        ("my/own [value]\n", True),
        ("train/lr", False),
        ("train/lr2", True),
        ("privacy/epsilon", False),
        ("privacy/raw_norm", True),
    ],
)
def test_the_last_pattern_that_fits_counts(name: str, listed: bool) -> None:
    assert matcher(PATTERNS)(name) is listed
    assert matcher(())(name) is False


@given(pattern=st.text("ab/*.+[", max_size=6), name=st.text("ab/.+[\n", max_size=6))
def test_only_the_star_is_special(pattern: str, name: str) -> None:
    expected = fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))
    assert matcher([pattern])(name) is expected
    assert matcher(["*", f"!{pattern}"])(name) is not expected


def test_people_read_the_patterns_as_a_sentence() -> None:
    assert not_private_text(PATTERNS) == "*, privacy/raw_*, but not train/lr, privacy/*"
    assert not_private_text(["train/*"]) == "train/*"


def test_each_record_lists_its_values_that_are_not_private(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", non_private=PATTERNS)
    log.write(step=1, epoch=0, values={"train/lr": 0.1, "train/step_loss": 0.5, "system/cpu_percent": 3.0})
    log.write(step=1, epoch=0, values={"privacy/epsilon": 1.5})
    log.close()
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert first["non_private"] == ["train/step_loss", "system/cpu_percent"]
    assert set(second) == {"step", "epoch", "time", "privacy/epsilon"}


def test_without_a_claim_of_privacy_records_are_as_ever(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert set(log.write(step=1, epoch=0, values={"train/loss": 0.5})) == {"step", "epoch", "time", "train/loss"}
    log.close()


def test_epsilon_counts_lost_steps_and_so_is_no_part_of_the_bits() -> None:
    assert is_measured("privacy/epsilon")
    assert not is_measured("train/loss")


def test_what_a_folder_says_of_its_privacy(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, "name", numbered=False)
    assert (read_privacy(folder), read_facts(folder).notice) == ({}, "")
    write_json(folder.summary, {"status": "running", "non_private": ["val/*", "!val/public"]})
    assert read_privacy(folder) == {"privacy.non_private": "val/*, but not val/public"}
    write_json(folder.summary, {"non_private": ["val/*"], "privacy": {"epsilon": None, "void": "no noise", "steps": 3}})
    facts = read_facts(folder)
    assert facts.privacy == {"privacy.void": "no noise", "privacy.steps": "3", "privacy.non_private": "val/*"}
    assert facts.notice == "Not private: no privacy guarantee covers the values val/*."


@pytest.mark.parametrize("content", ["", "[]", '{"privacy": 3}', '{"status": "runn'])
def test_a_summary_that_says_nothing_of_it(tmp_path: Path, content: str) -> None:
    folder = create_run_folder(tmp_path, "name", numbered=False)
    folder.summary.write_text(content)
    assert read_privacy(folder) == {}
