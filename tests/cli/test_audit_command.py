"""`mltrain audit-privacy`: its verdict, exit code and report, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from mltrain.cli.main import main
from mltrain.privacy import audit, canaries
from mltrain.privacy.accounting import Accountant
from mltrain.privacy.noise import NoiseSource
from mltrain.privacy.rounding import shown_up
from mltrain.workflows.audit_privacy import PrivacyAudit

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(vectors: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """A private configuration of 500 samples; what is drawn in its audit is the same each time."""
    monkeypatch.setattr(audit, "os", SimpleNamespace(urandom=lambda count: bytes(range(count))))
    private = {"trainer_type": "dp", "num_epochs": 2, "batch_size": 25, "gradient_accumulation_steps": 2}
    private["dp"] = {"noise_multiplier": 1.2, "grad_sample_mode": "ghost", "accountant": "rdp"}
    settings = {**vectors, "data": {"num_workers": 0, "train_size": 500}, "training": private}
    Path("private.yaml").write_text(yaml.safe_dump(settings))
    return "private.yaml"


def test_a_right_step_passes_and_the_report_has_all_of_it(config: str, capsys: Capture) -> None:
    assert main(["audit-privacy", "--config", config, "--output", "report.json"]) == 0
    printed = capsys.readouterr().out
    assert "\nPASS: No claim is refuted." in printed
    assert max(len(line) for line in printed.splitlines()[:-1]) <= 80
    report = json.loads(Path("report.json").read_text())
    assert report["passed"]
    epsilon = Accountant(0.1, 1.2, 500**-1.1, "rdp").epsilon(20)
    assert printed.startswith(f"Claimed by rdp: epsilon {shown_up(epsilon)} at delta 0.001075 after 20 steps.\n")
    assert report["claim"] == printed.splitlines()[0]
    assert "could be: the larger of these two, had every guess been right\n" in printed
    full, own = report["attacks"]
    assert (full["attacked"], own["attacked"]) == ("one full step, ghost", "20 of 20 steps, claim of these, ghost")
    assert (full["sample_rate"], full["steps"], full["noise_multiplier"]) == (1.0, 1, 1.5)
    assert (own["sample_rate"], own["steps"], own["noise_multiplier"], own["mode"]) == (0.1, 20, 1.2, "ghost")
    for attack in (full, own):
        assert attack["passed"]
        assert attack["delta"] == pytest.approx(500**-1.1)
        assert attack["f_dp_bound"] < attack["claimed_epsilon"] < attack["reachable"]
        assert attack["guesses"] / 2 < attack["correct"] < attack["guesses"]
        assert attack["canaries"] == 1000


def test_where_nothing_was_refuted_the_verdict_says_what_could_have_been() -> None:
    found = audit.AuditResult(
        claimed_epsilon=0.5, delta=1e-5, standard_bound=0.0, f_dp_bound=0.0, reachable=1.234, guesses=10, correct=5,
        canaries=40, sample_rate=0.1, noise_multiplier=1.0, max_grad_norm=1.0, steps=3, mode="ghost", confidence=0.999,
    )  # fmt: skip
    verdict = PrivacyAudit("", {"3 of 9 steps": found}).verdict
    assert verdict.endswith("the strongest claim that could have been refuted: 1.23 (3 of 9 steps).")
    assert "0.00" not in PrivacyAudit("", {"3 of 9 steps": replace(found, f_dp_bound=0.2)}).verdict


def test_a_faulty_step_fails_with_exit_code_1(config: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Weaker(NoiseSource):
        def draw(self, count: int) -> torch.Tensor:
            return super().draw(count) / 4

    monkeypatch.setattr(canaries, "NoiseSource", Weaker)
    assert main(["audit-privacy", "--config", config, "--output", "report.json"]) == 1
    assert "\nFAIL: Less private than claimed: one full step, ghost" in capsys.readouterr().out
    assert not json.loads(Path("report.json").read_text())["passed"]


def test_the_steps_follow_from_target_processes_and_mode(config: str) -> None:
    words = ["training.dp.noise_multiplier=null", "training.dp.target_epsilon=1.5", "--canaries", "200"]
    modes = ["training.dp.grad_sample_mode=auto", "training.dp.max_grad_norm=0.5", "--num_processes", "2"]
    assert main(["audit-privacy", "--config", config, "--output", "report.json", *words, *modes]) == 0
    attacks = json.loads(Path("report.json").read_text())["attacks"]
    assert [attack["mode"] for attack in attacks] == ["ghost", "ghost", "hooks", "hooks"]
    own = attacks[1]
    assert (own["sample_rate"], own["steps"], own["max_grad_norm"]) == (0.2, 10, 0.5)
    # The noise was calibrated to reach the target at the end of the run, and the claim is that of all its steps.
    assert 1.49 < own["claimed_epsilon"] <= 1.5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["training.trainer_type=standard"], "training.trainer_type: is standard: nothing is claimed"),
        (["training.dp.noise_multiplier=null"], "training.dp: neither noise_multiplier nor target_epsilon"),
        (["training.dp.noise_multiplier=0"], "training.dp.noise_multiplier: is 0"),
        (["training.dp.noise_multiplier=0", "training.dp.reproducible=true"], "without noise nothing is claimed"),
        (["training.batch_size=300"], "training.batch_size: a step would hold 600 examples"),
        (["training.dp.target_delta=0.01"], "training.dp.target_delta: is 0.01"),
        (["--canaries", "10"], "canaries: is too small"),
        (["--num_processes", "0"], "num_processes: is too small"),
        (["--output", "nowhere/report.json"], "--output: is no file in a folder that exists"),
        (["--output", "."], "--output: is no file in a folder that exists"),
    ],
)
def test_mistakes_are_one_line(config: str, words: list[str], told: str, capsys: Capture) -> None:
    assert main(["audit-privacy", "--config", config, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert told in errors[0]
