"""Messages from the command line: real SMS spam from the start, and the simulated ones that the project writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SHARED_DATA

QUIET = ["tracking.mlflow.enabled=false", "reproducibility.num_threads=1", "data.num_workers=0"]


def command(*words: str) -> None:
    """Run a console script of the environment."""
    script = str(Path(sys.executable).with_name(words[0]))
    result = subprocess.run([script, *words[1:]], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


def head_commands(config: Path) -> list[list[str]]:
    """Return the commands in the comment on top of a configuration, but for the last, which trains."""
    line = config.read_text(encoding="utf-8").splitlines()[0]
    parts = [part.strip() for part in line.partition(": ")[2].split(";")]
    return [part.split() for part in parts if part.startswith(("ml-", "mltrain"))][:-1]


def figures(run: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads(Path("runs", run, "summary.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_simulated_messages_as_their_configuration_says() -> None:
    config = ROOT / "configs" / "text_messages.yaml"
    for words in head_commands(config):
        command(*words)
    command("ml-train", "--config", str(config), "--run_name", "it", *QUIET)
    assert figures("it")["test"]["f1"] > 0.93, "2 % of the labels are wrong"


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_spam_is_found_from_the_start() -> None:
    """F1 of spam on the rows that no fold has seen; docs/text-classification.md has the five folds."""
    table = SHARED_DATA / "sms_spam.tsv"
    if not table.is_file():
        pytest.skip(f"real messages are not at {table}")
    Path("data/sms").mkdir(parents=True)
    shutil.copy(table, "data/sms")
    config = ROOT / "configs" / "sms_spam.yaml"
    for words in head_commands(config):
        command(*words)
    command("ml-train", "--config", str(config), "--run_name", "it", *QUIET)
    assert figures("it")["test"]["f1"] >= 0.93
